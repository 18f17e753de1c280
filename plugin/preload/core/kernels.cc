#include "core/kernels.h"

#include <atomic>
#include <exception>

#include "base/error.h"
#include "device/cuda/fold_kernels.h"
#include "device/cuda/memory.h"
#include "quant/cuda/fatbin.h"

namespace slimccl::overlay {
namespace {

std::atomic<const Gpu*> loaded{nullptr};

// Where the real NCCL has a communicator, the device's primary context is in use.
void prepare_on(const device::Driver& driver, const device::FoldKernels& kernels, int device) {
  device::CUcontext context = nullptr;
  driver.cuDevicePrimaryCtxRetain(&context, device);
  std::string failure;
  try {
    const device::CurrentContext current(driver, context);
    const device::BesideCaptures beside(driver);
    kernels.prepare();
  } catch (const Error& error) {
    failure = error.what();
  }
  driver.cuDevicePrimaryCtxRelease(device);
  check(failure.empty(), ncclUnhandledCudaError, failure);
}

}  // namespace

std::string load_kernels(int device) noexcept {
  try {
    if (device < 0) return kKernelsNotTried;
    // Never destroyed: threads may use them while the process exits. If the making fails, the next
    // communicator tries again.
    static const auto* const driver = new device::Driver;
    static const auto* const kernels = new device::FoldKernels(*driver, quant::fold_fatbin());
    prepare_on(*driver, *kernels, device);
    static const auto* const gpu = new Gpu{*driver, *kernels};
    loaded = gpu;
    return kKernelsOk;
  } catch (const std::exception& error) {
    return error.what();
  }
}

const Gpu* loaded_gpu() noexcept { return loaded; }

}  // namespace slimccl::overlay
