// Runs a kernel as a device would: on that device's memory. What runs is its source twin, or host
// rows (rows.h) where SLIMCCL_EMULATED_KERNELS says so.
#pragma once

#include <cstddef>
#include <random>
#include <string>

#include "quant/cuda/batch.h"

namespace slimccl::emulated {

struct LaunchShape {
  unsigned grid[3], block[3];
};

[[nodiscard]] size_t twin_parameter_bytes();

// Faults unless there is a twin of this name, and a launch of this shape is what it runs.
void check_twin(const std::string& kernel, const LaunchShape& shape, const void* parameters);

// On a stream's thread; `parameters` are a FoldBatch at any alignment.
void run_kernel_on(int device, const std::string& kernel, const void* parameters,
                   std::mt19937& random);

// `random` chooses the order of the warps.
void run_twin_on(int device, const std::string& kernel, const quant::FoldBatch& batch,
                 std::mt19937& random);

}  // namespace slimccl::emulated
