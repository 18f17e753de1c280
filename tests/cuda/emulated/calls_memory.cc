// The emulated driver's calls about memory: allocation, copies, fills.
#include <cstring>
#include <vector>

#include "cuda/emulated/exported.h"
#include "cuda/emulated/memory.h"
#include "cuda/emulated/settings.h"
#include "cuda/emulated/state.h"

namespace slimccl::device {

using namespace slimccl::emulated;

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

uint64_t copy_to_device(Stream& stream, CUdeviceptr into, const void* from, size_t bytes) {
  const Context& context = stream.context;
  require_host_memory(from);
  require_device_memory(context, into, bytes);
  if (memory().is_pinned(from, bytes)) {
    return enqueue(stream, "copy to the device", [=, &context](std::mt19937&) {
      std::memcpy(reach_now(context, into, bytes, "a copy"), from, bytes);
    });
  }
  // Pageable memory is read before the call returns.
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

uint64_t fill(Stream& stream, CUdeviceptr into, unsigned char value, size_t bytes) {
  const Context& context = stream.context;
  require_device_memory(context, into, bytes);
  return enqueue(stream, "fill", [=, &context](std::mt19937&) {
    std::memset(reach_now(context, into, bytes, "a fill"), value, bytes);
  });
}

}  // namespace

// As on a GPU, allocation and release may wait for all that the device has to do: here they always
// do, which a program that holds back a stream's progress must not rely on being otherwise.
CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  return call(__func__, [&] {
    require(bytes > 0, CUDA_ERROR_INVALID_VALUE);
    synchronize(current(), "an allocation");
    *address = memory().allocate(current().device, bytes);
    require(*address != 0, CUDA_ERROR_OUT_OF_MEMORY);
  });
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  return call(__func__, [&] {
    if (address == 0) return;
    synchronize(current(), "a release of memory");
    require(memory().release(current().device, address), CUDA_ERROR_INVALID_VALUE);
  });
}

CUresult cuMemHostAlloc(void** memory_out, size_t bytes, unsigned) {
  return call(__func__, [&] {
    require(bytes > 0, CUDA_ERROR_INVALID_VALUE);
    synchronize(current(), "an allocation");
    *memory_out = memory().allocate_pinned(bytes);
    require(*memory_out != nullptr, CUDA_ERROR_OUT_OF_MEMORY);
  });
}

CUresult cuMemFreeHost(void* pinned) {
  return call(__func__, [&] {
    synchronize(current(), "a release of memory");
    require(memory().release_pinned(pinned), CUDA_ERROR_INVALID_VALUE);
  });
}

// Pageable host memory is unknown to the driver: all its attributes are 0, and that is no error.
CUresult cuPointerGetAttributes(unsigned count, CUconstant* attributes, void** values,
                                CUdeviceptr pointer) {
  return call(__func__, [&] {
    require(count > 0, CUDA_ERROR_INVALID_VALUE);
    const int device = memory().device_of(pointer);
    const bool pinned = memory().is_pinned(reinterpret_cast<const void*>(pointer), 1);
    unsigned type = pinned ? CU_MEMORYTYPE_HOST : 0u;
    if (device >= 0) type = CU_MEMORYTYPE_DEVICE;
    for (unsigned i = 0; i < count; ++i) {
      switch (attributes[i]) {
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
          *static_cast<unsigned*>(values[i]) = type;
          break;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
          *static_cast<int*>(values[i]) = device;
          break;
        default:
          throw Refused{CUDA_ERROR_INVALID_VALUE};
      }
    }
  });
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr into, const void* from, size_t bytes) {
  return call(__func__, [&] {
    const std::shared_ptr<Stream> stream = stream_of(nullptr);
    stream->wait(copy_to_device(*stream, into, from, bytes), "cuMemcpyHtoD");
  });
}

CUresult cuMemcpyDtoH_v2(void* into, CUdeviceptr from, size_t bytes) {
  return call(__func__, [&] {
    const std::shared_ptr<Stream> stream = stream_of(nullptr);
    stream->wait(copy_to_host(*stream, into, from, bytes), "cuMemcpyDtoH");
  });
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr into, CUdeviceptr from, size_t bytes) {
  return call(__func__, [&] { copy_on_device(*stream_of(nullptr), into, from, bytes); });
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr into, const void* from, size_t bytes, CUstream handle) {
  return call(__func__, [&] { copy_to_device(*own_stream_of(handle), into, from, bytes); });
}

CUresult cuMemcpyDtoHAsync_v2(void* into, CUdeviceptr from, size_t bytes, CUstream handle) {
  return call(__func__, [&] {
    const std::shared_ptr<Stream> stream = own_stream_of(handle);
    const uint64_t ticket = copy_to_host(*stream, into, from, bytes);
    if (!memory().is_pinned(into, bytes)) stream->wait(ticket, "a copy to pageable memory");
  });
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr into, CUdeviceptr from, size_t bytes, CUstream handle) {
  return call(__func__, [&] { copy_on_device(*own_stream_of(handle), into, from, bytes); });
}

CUresult cuMemsetD8_v2(CUdeviceptr into, unsigned char value, size_t bytes) {
  return call(__func__, [&] { fill(*stream_of(nullptr), into, value, bytes); });
}

CUresult cuMemsetD8Async(CUdeviceptr into, unsigned char value, size_t bytes, CUstream handle) {
  return call(__func__, [&] { fill(*own_stream_of(handle), into, value, bytes); });
}

}  // namespace slimccl::device
