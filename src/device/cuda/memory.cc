#include "device/cuda/memory.h"

#include <dlfcn.h>

#include "base/log.h"

namespace slimccl::device {

bool has_context() noexcept {
  void* const handle = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (handle == nullptr) return false;
  const auto get_current =
      reinterpret_cast<CUresult (*)(CUcontext*)>(dlsym(handle, "cuCtxGetCurrent"));
  CUcontext context = nullptr;
  const bool has = get_current != nullptr && get_current(&context) == CUDA_SUCCESS;
  dlclose(handle);
  return has && context != nullptr;
}

int current_device(const Driver& driver) {
  CUcontext context = nullptr;
  if (driver.cuCtxGetCurrent.result(&context) != CUDA_SUCCESS || context == nullptr) return -1;
  CUdevice device = -1;
  return driver.cuCtxGetDevice.result(&device) == CUDA_SUCCESS ? device : -1;
}

int device_of(const Driver& driver, const void* pointer) {
  unsigned type = 0;
  int device = -1;
  CUconstant attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
  void* values[] = {&type, &device};
  driver.cuPointerGetAttributes(2, attributes, values, address_of(pointer));
  return type == CU_MEMORYTYPE_DEVICE || type == CU_MEMORYTYPE_UNIFIED ? device : -1;
}

CurrentContext::CurrentContext(const Driver& driver, CUcontext context) : driver_(driver) {
  driver.cuCtxGetCurrent(&before_);
  if (before_ == context) return;
  driver.cuCtxSetCurrent(context);
  changed_ = true;
}

CurrentContext::~CurrentContext() {
  if (changed_ && driver_.cuCtxSetCurrent.result(before_) != CUDA_SUCCESS)
    log::warn("the CUDA context that was current before a call could not be made so again");
}

BesideCaptures::BesideCaptures(const Driver& driver) : driver_(driver) {
  driver_.cuThreadExchangeStreamCaptureMode(&mode_);
}

BesideCaptures::~BesideCaptures() {
  (void)driver_.cuThreadExchangeStreamCaptureMode.result(&mode_);
}

}  // namespace slimccl::device
