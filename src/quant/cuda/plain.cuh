// Plain elements of a tensor as bits: 16 bytes at a time where the address allows it and all eight
// elements exist, else one by one. The bits are the same.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/bits.h"
#include "quant/cuda/access.cuh"
#include "quant/cuda/place.cuh"

namespace slimccl::quant::cuda {

inline constexpr uint32_t kPairs = kElems / 2;

// Two 2-byte elements in a register: of eight, number i is in pair i / 2, the even one below.
__device__ __forceinline__ uint16_t half_of(const uint32_t (&pairs)[kPairs], uint32_t i) {
  return static_cast<uint16_t>(i % 2 == 0 ? pairs[i / 2] : pairs[i / 2] >> 16);
}
__device__ __forceinline__ uint32_t pair_of(uint16_t low, uint16_t high) {
  return low | uint32_t{high} << 16;
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

__device__ __forceinline__ void load_pairs(const std::byte* from, uint32_t count,
                                           uint32_t (&pairs)[kPairs]) {
  if (count == kElems && is_wide(from)) {
    const uint4 all = ld16(from);
    pairs[0] = all.x, pairs[1] = all.y, pairs[2] = all.z, pairs[3] = all.w;
    return;
  }
#pragma unroll
  for (uint32_t i = 0; i < kElems; i += 2) {
    const std::byte* at = from + i * sizeof(uint16_t);
    const uint16_t low = i < count ? load<uint16_t>(at) : uint16_t{0};
    const uint16_t high = i + 1 < count ? load<uint16_t>(at + sizeof(uint16_t)) : uint16_t{0};
    pairs[i / 2] = pair_of(low, high);
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

__device__ __forceinline__ void store_pairs(const uint32_t (&pairs)[kPairs], uint32_t count,
                                            std::byte* into) {
  if (count == kElems && is_wide(into)) {
    st16(into, uint4{pairs[0], pairs[1], pairs[2], pairs[3]});
    return;
  }
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) {
    if (i < count) store(into + i * sizeof(uint16_t), half_of(pairs, i));
  }
}

}  // namespace slimccl::quant::cuda
