#include "core/kernels.h"

#include <atomic>
#include <exception>

#include "device/cuda/fold_kernels.h"
#include "device/cuda/memory.h"
#include "quant/cuda/fatbin.h"

namespace slimccl::overlay {
namespace {

std::atomic<const Gpu*> loaded{nullptr};

}  // namespace

std::string load_kernels() noexcept {
  try {
    // CUDA is started for nobody: a process that has no context here may want it after a fork.
    if (!device::has_context()) return kKernelsNotTried;
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
