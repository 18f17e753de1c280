// The emulated driver's copies that find out themselves where memory lies.
#include "cuda/emulated/copies.h"
#include "cuda/emulated/exported.h"
#include "cuda/emulated/memory.h"

namespace slimccl::device {

using namespace slimccl::emulated;

namespace {

enum class Wait : bool { kNever, kAlways };

// Between hosts CUDA always waits, between devices never. `wait` is for the other two.
void copy(Stream& stream, CUdeviceptr into, CUdeviceptr from, size_t bytes, Wait wait) {
  const bool to_device = memory().is_device(into), from_device = memory().is_device(from);
  auto* host_into = reinterpret_cast<void*>(into);
  const auto* host_from = reinterpret_cast<const void*>(from);
  if (to_device && from_device) {
    copy_between_devices(stream, into, from, bytes);
  } else if (to_device) {
    const uint64_t ticket = copy_to_device(stream, into, host_from, bytes);
    if (wait == Wait::kAlways) stream.wait(ticket, "a copy to the device");
  } else if (from_device) {
    const uint64_t ticket = copy_to_host(stream, host_into, from, bytes);
    if (wait == Wait::kAlways || !memory().is_pinned(host_into, bytes)) {
      stream.wait(ticket, "a copy to the host");
    }
  } else {
    stream.wait(copy_on_host(stream, host_into, host_from, bytes), "a copy on the host");
  }
}

}  // namespace

CUresult cuMemcpy(CUdeviceptr into, CUdeviceptr from, size_t bytes) {
  return call(__func__, [&] {
    forbid_unsafe_in_capture();
    if (bytes > 0) copy(*stream_of(nullptr), into, from, bytes, Wait::kAlways);
  });
}

CUresult cuMemcpyAsync(CUdeviceptr into, CUdeviceptr from, size_t bytes, CUstream handle) {
  return call(__func__, [&] {
    const std::shared_ptr<Stream> stream = own_stream_of(handle);
    if (bytes > 0) copy(*stream, into, from, bytes, Wait::kNever);
  });
}

CUresult cuMemcpyPeerAsync(CUdeviceptr into, CUcontext into_context, CUdeviceptr from,
                           CUcontext from_context, size_t bytes, CUstream handle) {
  return call(__func__, [&] {
    const std::shared_ptr<Stream> stream = own_stream_of(handle);
    const auto belongs = [](CUdeviceptr address, CUcontext context) {
      return memory().is_device(address) && memory().owner(address) == context_of(context)->device;
    };
    require(into_context != nullptr && from_context != nullptr, CUDA_ERROR_INVALID_CONTEXT);
    require(belongs(into, into_context) && belongs(from, from_context), CUDA_ERROR_INVALID_VALUE);
    if (bytes > 0) copy_between_devices(*stream, into, from, bytes);
  });
}

}  // namespace slimccl::device
