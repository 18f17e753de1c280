// What nvcc provides without being asked, for kernels that g++ compiles: only what ours use.
// Included before a kernel's source, and nowhere else: the names are CUDA's.
#pragma once

#include <cstdint>

#include "cuda/twin/machine.h"

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __grid_constant__
#define __launch_bounds__(...)
// One copy is enough: the blocks of a thread's machine run one after the other.
#define __shared__ static thread_local

struct uint2 {
  uint32_t x, y;
} __attribute__((aligned(8)));
struct uint4 {
  uint32_t x, y, z, w;
} __attribute__((aligned(16)));

struct TwinIndex {
  uint32_t x;  // our grids and blocks have one dimension
};
extern thread_local TwinIndex threadIdx, blockIdx;  // machine.cc sets them when a fiber goes on

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  slimccl::twin::barrier(file, line);
}

inline uint32_t __shfl_xor_sync(uint32_t mask, uint32_t value, uint32_t step,
                                const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return slimccl::twin::exchange(mask, value, step, file, line);
}
