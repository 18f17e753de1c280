// The functions that the emulated libcuda.so.1 exports: those of the tables in device/cuda/abi.h
// and more_abi.h, declared from them, so that a definition with other parameters does not compile.
#pragma once

#include "cuda/emulated/control.h"
#include "cuda/emulated/more_abi.h"

namespace slimccl::device {
extern "C" {
#define SLIMCCL_DECLARE(name, symbol, ...) SLIMCCL_EMULATED_EXPORT CUresult symbol(__VA_ARGS__);
SLIMCCL_CUDA_FUNCTIONS(SLIMCCL_DECLARE)
SLIMCCL_MORE_CUDA_FUNCTIONS(SLIMCCL_DECLARE)
#undef SLIMCCL_DECLARE
}
}  // namespace slimccl::device
