// The only functions of the kernels that touch global memory, so that the CPU twin
// (tests/cuda/twin) can check each access and place it. Every access is aligned to its own size.
#pragma once

#include <cstddef>
#include <cstdint>

namespace slimccl::quant::cuda {

#if defined(__CUDACC__)
__device__ __forceinline__ const void* readable(const void* address, uint32_t) { return address; }
__device__ __forceinline__ void* writable(void* address, uint32_t) { return address; }
#else
const void* readable(const void* address, uint32_t bytes);  // the twin's
void* writable(void* address, uint32_t bytes);
#endif

template <class Word>
__device__ __forceinline__ Word load(const void* address) {
  return *static_cast<const Word*>(readable(address, sizeof(Word)));
}

template <class Word>
__device__ __forceinline__ void store(void* address, Word value) {
  *static_cast<Word*>(writable(address, sizeof(Word))) = value;
}

__device__ __forceinline__ uint4 ld16(const void* address) { return load<uint4>(address); }
__device__ __forceinline__ void st16(void* address, uint4 value) { store(address, value); }

// Tensors promise no more than the alignment of their elements.
__device__ __forceinline__ bool is_wide(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % sizeof(uint4) == 0;
}

}  // namespace slimccl::quant::cuda
