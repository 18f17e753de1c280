// What the emulated driver says of an address.
#include "cuda/emulated/exported.h"
#include "cuda/emulated/memory.h"
#include "cuda/emulated/state.h"

namespace slimccl::device {

using namespace slimccl::emulated;

CUresult cuPointerGetAttribute(void* value, CUconstant attribute, CUdeviceptr address) {
  return call(__func__, [&] {
    const auto range = memory().find(address);
    require(range.has_value(), CUDA_ERROR_INVALID_VALUE);
    const bool on_device = range->device >= 0;
    if (attribute == CU_POINTER_ATTRIBUTE_MEMORY_TYPE) {
      *static_cast<unsigned*>(value) = on_device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
    } else if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) {
      *static_cast<int*>(value) = on_device ? range->device : current().device;
    } else if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_POINTER) {
      *static_cast<CUdeviceptr*>(value) = address;
    } else if (attribute == CU_POINTER_ATTRIBUTE_HOST_POINTER) {
      require(!on_device, CUDA_ERROR_INVALID_VALUE);
      *static_cast<CUdeviceptr*>(value) = address;
    } else if (attribute == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR) {
      *static_cast<CUdeviceptr*>(value) = range->begin;
    } else if (attribute == CU_POINTER_ATTRIBUTE_RANGE_SIZE) {
      *static_cast<size_t*>(value) = range->bytes;
    } else {
      throw Refused{CUDA_ERROR_NOT_SUPPORTED};
    }
  });
}

}  // namespace slimccl::device
