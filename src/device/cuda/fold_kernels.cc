#include "device/cuda/fold_kernels.h"

#include "base/error.h"
#include "base/log.h"

namespace slimccl::device {

FoldKernels::FoldKernels(const Driver& driver, ConstBytes fatbin) : driver_(driver) {
  check(!fatbin.empty(), ncclInvalidUsage,
        "this SlimCCL was built without nvcc and has no CUDA kernels; build it where nvcc is, or "
        "keep tensors in host memory");
  driver_.cuLibraryLoadData(&library_, fatbin.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
  for (size_t form = 0; form < kKernels; ++form) {
    const char* name = quant::kFoldKernels[form];
    const CUresult result = driver_.cuLibraryGetKernel.result(&kernels_[form], library_, name);
    if (result == CUDA_SUCCESS) continue;
    (void)driver_.cuLibraryUnload.result(library_);  // no destructor runs after a throw
    check(result != CUDA_ERROR_NOT_FOUND, ncclInternalError, "the library's fatbin has no kernel ",
          name, ": it was not built from this version's kernels.cu; build SlimCCL again");
    driver_.fail("cuLibraryGetKernel", result);
  }
}

FoldKernels::~FoldKernels() {
  const CUresult result = driver_.cuLibraryUnload.result(library_);
  if (result != CUDA_SUCCESS) log::warn("cuLibraryUnload failed with result ", result);
}

void FoldKernels::prepare() const {
  for (CUkernel kernel : kernels_) {
    CUfunction function = nullptr;
    driver_.cuKernelGetFunction(&function, kernel);
  }
}

void FoldKernels::launch(CUstream stream, quant::Form sink, const quant::FoldBatch& batch) const {
  ensure(batch.superblocks > 0, "a fold of nothing was launched");
  void* parameters[] = {const_cast<quant::FoldBatch*>(&batch)};  // only read: it is copied
  driver_.cuLaunchKernel(reinterpret_cast<CUfunction>(kernels_.at(static_cast<size_t>(sink))),
                         batch.superblocks, 1, 1, quant::kFoldThreads, 1, 1, 0, stream, parameters,
                         nullptr);
}

}  // namespace slimccl::device
