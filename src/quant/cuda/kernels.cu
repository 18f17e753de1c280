// The five kernels, one for each form of sink, by the names in batch.h. Compiled by nvcc into the
// embedded fatbins, without contraction (--fmad=false) and without fast-math: the bits are those of
// the host rows. The tests compile this file with g++ too (tests/cuda/twin).
#include "quant/cuda/fold.cuh"

namespace slimccl::quant::cuda {

#define SLIMCCL_FOLD_KERNEL(name, form)                         \
  extern "C" __global__ void __launch_bounds__(kFoldThreads, 8) \
      name(const __grid_constant__ FoldBatch batch) {           \
    fold<form>(batch);                                          \
  }

SLIMCCL_FOLD_KERNEL(slimccl_fold_to_fp32, Form::kFp32)
SLIMCCL_FOLD_KERNEL(slimccl_fold_to_bf16, Form::kBf16)
SLIMCCL_FOLD_KERNEL(slimccl_fold_to_fp16, Form::kFp16)
SLIMCCL_FOLD_KERNEL(slimccl_fold_to_q8, Form::kQ8)
SLIMCCL_FOLD_KERNEL(slimccl_fold_to_q4s, Form::kQ4s)

}  // namespace slimccl::quant::cuda
