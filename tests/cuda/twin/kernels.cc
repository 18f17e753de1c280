// Compiled without contraction, for no special instruction set and without strict aliasing: nvcc
// reads and writes memory under any type, so its kernels do.
#include "cuda/twin/kernels.h"

#include <iterator>
#include <string>

#include "cuda/twin/device.h"
#include "quant/cuda/kernels.cu"

namespace slimccl::twin {
namespace {

using Kernel = void(quant::FoldBatch);

// In the order of kFoldKernels, which is that of Form.
constexpr Kernel* kKernels[] = {quant::cuda::slimccl_fold_to_fp32,
                                quant::cuda::slimccl_fold_to_bf16,
                                quant::cuda::slimccl_fold_to_fp16, quant::cuda::slimccl_fold_to_q8,
                                quant::cuda::slimccl_fold_to_q4s};
static_assert(std::size(kKernels) == std::size(quant::kFoldKernels));

}  // namespace

void run_twin(std::string_view kernel_name, const quant::FoldBatch& batch, WarpOrder order) {
  for (size_t i = 0; i < std::size(kKernels); ++i) {
    if (kernel_name != quant::kFoldKernels[i]) continue;
    run_grid(quant::kFoldKernels[i], batch.superblocks, quant::kFoldThreads, order,
             [&] { kKernels[i](batch); });
    return;
  }
  fail("no kernel is named '" + std::string(kernel_name) + "'");
}

}  // namespace slimccl::twin
