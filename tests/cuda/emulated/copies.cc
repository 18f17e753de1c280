#include "cuda/emulated/copies.h"

#include <cstring>
#include <vector>

#include "cuda/emulated/memory.h"
#include "cuda/emulated/settings.h"

namespace slimccl::emulated {
namespace {

// What was reachable when the operation was enqueued must still be when the stream comes to it.
std::byte* reach_now(const Context& context, CUdeviceptr address, size_t bytes, const char* what) {
  std::byte* found = memory().reach(context.device, address, bytes);
  if (found == nullptr)
    fault(std::string(what) + " found its memory freed: " + memory().describe(address));
  return found;
}

void require_device_memory(const Context& context, CUdeviceptr address, size_t bytes) {
  require(memory().reach(context.device, address, bytes) != nullptr, CUDA_ERROR_INVALID_VALUE);
}

void require_host_memory(const void* host) {
  require(host != nullptr && !memory().is_device(reinterpret_cast<uint64_t>(host)),
          CUDA_ERROR_INVALID_VALUE);
}

const Context& device_context(CUdeviceptr address) {
  require(memory().is_device(address), CUDA_ERROR_INVALID_VALUE);
  return state().contexts[static_cast<size_t>(memory().owner(address))];
}

}  // namespace

uint64_t copy_to_device(Stream& stream, CUdeviceptr into, const void* from, size_t bytes) {
  const Context& context = stream.context;
  require_host_memory(from);
  require_device_memory(context, into, bytes);
  if (memory().is_pinned(from, bytes)) {
    return enqueue(stream, "copy to the device", [=, &context](std::mt19937&) {
      std::memcpy(reach_now(context, into, bytes, "a copy"), from, bytes);
    });
  }
  forbid_in_capture(stream);
  const auto* first = static_cast<const std::byte*>(from);
  return enqueue(stream, "copy to the device",
                 [into, &context, staged = std::vector(first, first + bytes)](std::mt19937&) {
                   std::byte* found = reach_now(context, into, staged.size(), "a copy");
                   std::memcpy(found, staged.data(), staged.size());
                 });
}

uint64_t copy_to_host(Stream& stream, void* into, CUdeviceptr from, size_t bytes) {
  const Context& context = stream.context;
  require_host_memory(into);
  require_device_memory(context, from, bytes);
  if (!memory().is_pinned(into, bytes)) forbid_in_capture(stream);
  return enqueue(stream, "copy to the host", [=, &context](std::mt19937&) {
    std::memcpy(into, reach_now(context, from, bytes, "a copy"), bytes);
  });
}

uint64_t copy_on_device(Stream& stream, CUdeviceptr into, CUdeviceptr from, size_t bytes) {
  const Context& context = stream.context;
  require_device_memory(context, into, bytes);
  require_device_memory(context, from, bytes);
  return enqueue(stream, "copy on the device", [=, &context](std::mt19937&) {
    std::memmove(reach_now(context, into, bytes, "a copy"),
                 reach_now(context, from, bytes, "a copy"), bytes);
  });
}

uint64_t copy_between_devices(Stream& stream, CUdeviceptr into, CUdeviceptr from, size_t bytes) {
  const Context& to = device_context(into);
  const Context& of = device_context(from);
  require_device_memory(to, into, bytes);
  require_device_memory(of, from, bytes);
  return enqueue(stream, "copy between devices", [=, &to, &of](std::mt19937&) {
    std::memmove(reach_now(to, into, bytes, "a copy"), reach_now(of, from, bytes, "a copy"), bytes);
  });
}

uint64_t copy_on_host(Stream& stream, void* into, const void* from, size_t bytes) {
  require_host_memory(into);
  require_host_memory(from);
  forbid_in_capture(stream);
  return enqueue(stream, "copy on the host",
                 [=](std::mt19937&) { std::memmove(into, from, bytes); });
}

uint64_t fill(Stream& stream, CUdeviceptr into, unsigned char value, size_t bytes) {
  const Context& context = stream.context;
  require_device_memory(context, into, bytes);
  return enqueue(stream, "fill", [=, &context](std::mt19937&) {
    std::memset(reach_now(context, into, bytes, "a fill"), value, bytes);
  });
}

}  // namespace slimccl::emulated
