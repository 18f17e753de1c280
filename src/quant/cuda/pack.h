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
  // A scale in device memory, one element of `type`, that is read when the kernel runs: of those
  // sources whose flag is true, instead of their own. No flags: of none. Both stay the caller's.
  const void* device_scale = nullptr;
  std::span<const bool> device_scaled = {};
};

struct Launch {
  Form to;  // of all its sinks: the kernel is kFoldKernels[to]
  FoldBatch batch;
};

// In the same order, neighbours of one form and scale at equal distances joined. `device_scaled` as
// in Fold.
[[nodiscard]] std::vector<SourceRun> merged(std::span<const Source> sources, ncclDataType_t type,
                                            std::span<const bool> device_scaled = {});

// No fold may touch what another one writes: launches run in any order, and so do the jobs of one.
// Folds of no elements are left out. Throws Error for a fold that one launch cannot hold.
[[nodiscard]] std::vector<Launch> packed(std::span<const Fold> folds);

}  // namespace slimccl::quant
