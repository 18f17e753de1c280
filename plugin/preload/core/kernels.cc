#include "core/kernels.h"

#include <dlfcn.h>

#include <atomic>
#include <exception>

#include "device/cuda/fold_kernels.h"
#include "device/cuda/memory.h"
#include "quant/cuda/fatbin.h"

namespace slimccl::overlay {
namespace {

// Who has not loaded the driver has no context, and we do not start it.
bool driver_is_loaded() noexcept {
  void* const handle = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (handle != nullptr) dlclose(handle);
  return handle != nullptr;
}

std::atomic<const Gpu*> loaded{nullptr};

}  // namespace

std::string load_kernels() noexcept {
  try {
    if (!driver_is_loaded()) return kKernelsNotTried;
    // Never destroyed: threads may use them while the process exits. If the making fails, the next
    // communicator tries again.
    static const auto* const driver = new device::Driver;
    if (device::current_device(*driver) < 0) return kKernelsNotTried;
    static const auto* const kernels = new device::FoldKernels(*driver, quant::fold_fatbin());
    kernels->prepare();
    static const auto* const gpu = new Gpu{*driver, *kernels};
    loaded = gpu;
    return kKernelsOk;
  } catch (const std::exception& error) {
    return error.what();
  }
}

const Gpu* loaded_gpu() noexcept { return loaded; }

}  // namespace slimccl::overlay
