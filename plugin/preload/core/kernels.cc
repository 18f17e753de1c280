#include "core/kernels.h"

#include <exception>

#include "device/cuda/fold_kernels.h"
#include "device/cuda/memory.h"
#include "quant/cuda/fatbin.h"

namespace slimccl::overlay {

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
    return kKernelsOk;
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace slimccl::overlay
