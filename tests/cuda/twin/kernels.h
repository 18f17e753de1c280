// The five fold kernels of src/quant/cuda/kernels.cu, compiled by g++, by their names.
#pragma once

#include <string_view>

#include "cuda/twin/machine.h"
#include "quant/cuda/batch.h"

namespace slimccl::twin {

// Runs one launch: blocks of kFoldThreads threads, as many as the batch has superblocks. An unknown
// name is a fail().
void run_twin(std::string_view kernel_name, const quant::FoldBatch& batch, WarpOrder order);

}  // namespace slimccl::twin
