// The emulated driver's calls about memory: allocation, copies, fills.
#include "cuda/emulated/copies.h"
#include "cuda/emulated/exported.h"
#include "cuda/emulated/memory.h"
#include "cuda/emulated/settings.h"
#include "cuda/emulated/state.h"

namespace slimccl::device {

using namespace slimccl::emulated;

// As on a GPU, allocation and release may wait for all that the device has to do: here they always
// do, which a program that holds back a stream's progress must not rely on being otherwise.
CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  return call(__func__, [&] {
    forbid_unsafe_in_capture();
    require(bytes > 0, CUDA_ERROR_INVALID_VALUE);
    synchronize(current(), "an allocation");
    *address = memory().allocate(current().device, bytes);
    require(*address != 0, CUDA_ERROR_OUT_OF_MEMORY);
  });
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  return call(__func__, [&] {
    forbid_unsafe_in_capture();
    if (address == 0) return;
    synchronize(current(), "a release of memory");
    require(memory().release(current().device, address), CUDA_ERROR_INVALID_VALUE);
  });
}

CUresult cuMemHostAlloc(void** memory_out, size_t bytes, unsigned) {
  return call(__func__, [&] {
    forbid_unsafe_in_capture();
    require(bytes > 0, CUDA_ERROR_INVALID_VALUE);
    synchronize(current(), "an allocation");
    *memory_out = memory().allocate_pinned(bytes);
    require(*memory_out != nullptr, CUDA_ERROR_OUT_OF_MEMORY);
  });
}

CUresult cuMemFreeHost(void* pinned) {
  return call(__func__, [&] {
    forbid_unsafe_in_capture();
    synchronize(current(), "a release of memory");
    require(memory().release_pinned(pinned), CUDA_ERROR_INVALID_VALUE);
  });
}

CUresult cuMemHostRegister_v2(void* pageable, size_t bytes, unsigned) {
  return call(__func__, [&] {
    forbid_unsafe_in_capture();
    require(pageable != nullptr && bytes > 0, CUDA_ERROR_INVALID_VALUE);
    synchronize(current(), "a registration of memory");
    require(memory().register_pinned(pageable, bytes), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  });
}

CUresult cuMemHostUnregister(void* pinned) {
  return call(__func__, [&] {
    forbid_unsafe_in_capture();
    synchronize(current(), "a release of memory");
    require(memory().unregister_pinned(pinned), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  });
}

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return call(__func__, [&] {
    *free = memory().free_bytes(current().device);
    *total = settings().device_bytes;
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
    forbid_unsafe_in_capture();
    const std::shared_ptr<Stream> stream = stream_of(nullptr);
    stream->wait(copy_to_device(*stream, into, from, bytes), "cuMemcpyHtoD");
  });
}

CUresult cuMemcpyDtoH_v2(void* into, CUdeviceptr from, size_t bytes) {
  return call(__func__, [&] {
    forbid_unsafe_in_capture();
    const std::shared_ptr<Stream> stream = stream_of(nullptr);
    stream->wait(copy_to_host(*stream, into, from, bytes), "cuMemcpyDtoH");
  });
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr into, CUdeviceptr from, size_t bytes) {
  return call(__func__, [&] {
    forbid_unsafe_in_capture();
    copy_on_device(*stream_of(nullptr), into, from, bytes);
  });
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
  return call(__func__, [&] {
    forbid_unsafe_in_capture();
    fill(*stream_of(nullptr), into, value, bytes);
  });
}

CUresult cuMemsetD8Async(CUdeviceptr into, unsigned char value, size_t bytes, CUstream handle) {
  return call(__func__, [&] { fill(*own_stream_of(handle), into, value, bytes); });
}

}  // namespace slimccl::device
