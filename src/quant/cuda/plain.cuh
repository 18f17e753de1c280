// Plain elements of a tensor as bits: 16 bytes at a time where the address allows it and all eight
// elements exist, else one by one. The bits are the same.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/bits.h"
#include "quant/cuda/access.cuh"
#include "quant/cuda/place.cuh"

namespace slimccl::quant::cuda {

__device__ __forceinline__ uint16_t low_half(uint32_t word) { return static_cast<uint16_t>(word); }
__device__ __forceinline__ uint16_t high_half(uint32_t word) {
  return static_cast<uint16_t>(word >> 16);
}

__device__ __forceinline__ void load_words(const std::byte* from, uint32_t count,
                                           uint32_t (&words)[kElems]) {
  if (count == kElems && is_wide(from)) {
    const uint4 low = ld16(from), high = ld16(from + sizeof(uint4));
    words[0] = low.x, words[1] = low.y, words[2] = low.z, words[3] = low.w;
    words[4] = high.x, words[5] = high.y, words[6] = high.z, words[7] = high.w;
    return;
  }
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) {
    words[i] = i < count ? load<uint32_t>(from + i * sizeof(uint32_t)) : 0;
  }
}

__device__ __forceinline__ void load_halves(const std::byte* from, uint32_t count,
                                            uint16_t (&halves)[kElems]) {
  if (count == kElems && is_wide(from)) {
    const uint4 all = ld16(from);
    halves[0] = low_half(all.x), halves[1] = high_half(all.x);
    halves[2] = low_half(all.y), halves[3] = high_half(all.y);
    halves[4] = low_half(all.z), halves[5] = high_half(all.z);
    halves[6] = low_half(all.w), halves[7] = high_half(all.w);
    return;
  }
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) {
    halves[i] = i < count ? load<uint16_t>(from + i * sizeof(uint16_t)) : uint16_t{0};
  }
}

__device__ __forceinline__ void store_words(const uint32_t (&words)[kElems], uint32_t count,
                                            std::byte* into) {
  if (count == kElems && is_wide(into)) {
    st16(into, uint4{words[0], words[1], words[2], words[3]});
    st16(into + sizeof(uint4), uint4{words[4], words[5], words[6], words[7]});
    return;
  }
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) {
    if (i < count) store(into + i * sizeof(uint32_t), words[i]);
  }
}

__device__ __forceinline__ uint32_t joined(uint16_t low, uint16_t high) {
  return low | uint32_t{high} << 16;
}

__device__ __forceinline__ void store_halves(const uint16_t (&halves)[kElems], uint32_t count,
                                             std::byte* into) {
  if (count == kElems && is_wide(into)) {
    st16(into, uint4{joined(halves[0], halves[1]), joined(halves[2], halves[3]),
                     joined(halves[4], halves[5]), joined(halves[6], halves[7])});
    return;
  }
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) {
    if (i < count) store(into + i * sizeof(uint16_t), halves[i]);
  }
}

}  // namespace slimccl::quant::cuda
