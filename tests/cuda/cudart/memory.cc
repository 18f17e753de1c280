// The emulated runtime's functions about memory.
#include <cstdio>

#include "cuda/cudart/runtime.h"

using namespace slimccl::cudart;

namespace {

bool is_device_memory(const void* pointer) {
  unsigned type = 0;
  const auto result = driver::cuPointerGetAttribute(&type, driver::CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                                    address(pointer));
  return result == driver::CUDA_SUCCESS && type == driver::CU_MEMORYTYPE_DEVICE;
}

// On a GPU the wrong kind is undefined behaviour.
void require_direction(const void* into, const void* from, cudaMemcpyKind kind) {
  if (kind == cudaMemcpyDefault) return;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  require(is_device_memory(into) == to_device && is_device_memory(from) == from_device,
          cudaErrorInvalidMemcpyDirection);
}

void copy(void* into, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  bind();
  if (bytes == 0) return;
  require_direction(into, from, kind);
  require_driver(driver::cuMemcpyAsync(address(into), address(from), bytes, handle(stream)));
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return call(__func__, [&] {
    bind();
    driver::CUdeviceptr allocated = 0;
    if (bytes > 0) require_driver(driver::cuMemAlloc_v2(&allocated, bytes));
    *pointer = reinterpret_cast<void*>(allocated);
  });
}

// Of any device, whichever is current.
cudaError_t cudaFree(void* pointer) {
  return call(__func__, [&] {
    bind();
    if (pointer == nullptr) return;
    require(is_device_memory(pointer), cudaErrorInvalidValue);
    int owner = 0;
    require_driver(driver::cuPointerGetAttribute(
        &owner, driver::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address(pointer)));
    const DeviceGuard guard(owner);
    require_driver(driver::cuMemFree_v2(address(pointer)));
  });
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned flags) {
  return call(__func__, [&] {
    bind();
    *pointer = nullptr;
    if (bytes > 0) require_driver(driver::cuMemHostAlloc(pointer, bytes, flags));
  });
}

cudaError_t cudaFreeHost(void* pointer) {
  return call(__func__, [&] {
    bind();
    if (pointer != nullptr) require_driver(driver::cuMemFreeHost(pointer));
  });
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned flags) {
  return call(__func__, [&] {
    bind();
    require_driver(driver::cuMemHostRegister_v2(pointer, bytes, flags));
  });
}

cudaError_t cudaHostUnregister(void* pointer) {
  return call(__func__, [&] {
    bind();
    require_driver(driver::cuMemHostUnregister(pointer));
  });
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return call(__func__, [&] {
    bind();
    require_driver(driver::cuMemGetInfo_v2(free, total));
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return call(__func__, [&] {
    bind();
    unsigned type = 0;
    int ordinal = 0;
    const auto known = driver::cuPointerGetAttribute(
        &type, driver::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address(pointer));
    *attributes = {};
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = cudaInvalidDeviceId;
    if (known == driver::CUDA_ERROR_INVALID_VALUE) return;
    require_driver(known);
    require_driver(driver::cuPointerGetAttribute(
        &ordinal, driver::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address(pointer)));
    const bool on_device = type == driver::CU_MEMORYTYPE_DEVICE;
    attributes->type = on_device ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
    attributes->device = ordinal;
    attributes->devicePointer = const_cast<void*>(pointer);
    attributes->hostPointer = on_device ? nullptr : const_cast<void*>(pointer);
  });
}

cudaError_t cudaMemcpy(void* into, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return call(__func__, [&] {
    bind();
    if (bytes == 0) return;
    require_direction(into, from, kind);
    require_driver(driver::cuMemcpy(address(into), address(from), bytes));
  });
}

cudaError_t cudaMemcpyAsync(void* into, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return call(__func__, [&] { copy(into, from, bytes, kind, stream); });
}

cudaError_t cudaMemcpy2DAsync(void* into, size_t into_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return call(__func__, [&] {
    require(width <= into_pitch && width <= from_pitch, cudaErrorInvalidPitchValue);
    for (size_t row = 0; row < height; ++row) {
      copy(static_cast<std::byte*>(into) + row * into_pitch,
           static_cast<const std::byte*>(from) + row * from_pitch, width, kind, stream);
    }
  });
}

cudaError_t cudaMemcpyPeerAsync(void* into, int into_device, const void* from, int from_device,
                                size_t bytes, cudaStream_t stream) {
  return call(__func__, [&] {
    bind();
    require_driver(driver::cuMemcpyPeerAsync(address(into), primary_context(into_device),
                                             address(from), primary_context(from_device), bytes,
                                             handle(stream)));
  });
}

cudaError_t cudaMemset(void* into, int value, size_t bytes) {
  return call(__func__, [&] {
    bind();
    if (bytes == 0) return;
    require_driver(driver::cuMemsetD8_v2(address(into), static_cast<unsigned char>(value), bytes));
  });
}

cudaError_t cudaMemsetAsync(void* into, int value, size_t bytes, cudaStream_t stream) {
  return call(__func__, [&] {
    bind();
    if (bytes == 0) return;
    require_driver(driver::cuMemsetD8Async(address(into), static_cast<unsigned char>(value), bytes,
                                           handle(stream)));
  });
}

}  // extern "C"
