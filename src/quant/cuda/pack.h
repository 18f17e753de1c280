// From folds as the host asks for them to launches of the CUDA kernels. Pure functions: they look
// at addresses, never behind them.
#pragma once

#include <span>
#include <vector>

#include "quant/cuda/batch.h"
#include "quant/kernels.h"

namespace slimccl::quant {

// What Kernels::fold is told, with device memory.
struct Fold {
  std::span<const Source> sources;
  Sink sink;
  ncclDataType_t type;
  uint64_t elems;
};

struct Launch {
  Form to;  // of all its sinks: the kernel is kFoldKernels[to]
  FoldBatch batch;
};

// In the same order, neighbours of one form and scale at equal distances joined.
[[nodiscard]] std::vector<SourceRun> merged(std::span<const Source> sources, ncclDataType_t type);

// No fold may touch what another one writes: launches run in any order, and so do the jobs of one.
// Folds of no elements are left out. Throws Error for a fold that one launch cannot hold.
[[nodiscard]] std::vector<Launch> packed(std::span<const Fold> folds);

}  // namespace slimccl::quant
