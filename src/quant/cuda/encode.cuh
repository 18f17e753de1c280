// One thread's eight sums into a sink of each form. All threads of a thread block come here
// together, those without elements too: blocks and superblocks are agreed on by shuffles and shared
// memory.
#pragma once

#include "quant/cuda/access.cuh"
#include "quant/cuda/place.cuh"
#include "quant/cuda/plain.cuh"
#include "quant/form.h"
#include "quant/half.h"
#include "quant/q4s.h"
#include "quant/q8.h"

namespace slimccl::quant::cuda {

inline constexpr uint32_t kWarp = 32;

__device__ __forceinline__ uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

// The largest value of `kLanes` neighbouring lanes, for all of them.
template <uint32_t kLanes>
__device__ __forceinline__ uint32_t max_of_lanes(uint32_t value) {
#pragma unroll
  for (uint32_t step = 1; step < kLanes; step *= 2) {
    value = larger(value, __shfl_xor_sync(0xffffffff, value, step));
  }
  return value;
}

// The largest value of the thread block, for all its threads. Once in a kernel: nothing keeps a
// second call's words from overtaking the readers of the first.
__device__ __forceinline__ uint32_t max_of_threads(uint32_t value) {
  __shared__ uint32_t warps[kFoldThreads / kWarp];
  value = max_of_lanes<kWarp>(value);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  uint32_t largest = 0;
#pragma unroll
  for (uint32_t i = 0; i < kFoldThreads / kWarp; ++i) largest = larger(largest, warps[i]);
  return largest;
}

// Four values below 256 in the bytes of a word, the first one lowest.
__device__ __forceinline__ uint32_t bytes_of(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return a | b << 8 | c << 16 | d << 24;
}

__device__ __forceinline__ void encode_fp32(const float (&sums)[kElems], const Place& place,
                                            std::byte* sink) {
  uint32_t words[kElems];
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) words[i] = bits_of(canonical(sums[i]));
  store_words(words, place.count, sink + plain_offset(place, 4));
}

template <Form kTo>
__device__ __forceinline__ uint16_t half_from(float sum, bool saturate) {
  constexpr bool kBf16 = kTo == Form::kBf16;
  if (saturate) sum = saturated(sum, kBf16 ? kBf16MaxBits : kFp16MaxBits);
  return kBf16 ? float_to_bf16(sum) : float_to_fp16(sum);
}

template <Form kTo>
__device__ __forceinline__ void encode_half(const float (&sums)[kElems], const Place& place,
                                            bool saturate, std::byte* sink) {
  uint32_t pairs[kPairs];
#pragma unroll
  for (uint32_t i = 0; i < kElems; i += 2) {
    pairs[i / 2] =
        pair_of(half_from<kTo>(sums[i], saturate), half_from<kTo>(sums[i + 1], saturate));
  }
  store_pairs(pairs, place.count, sink + plain_offset(place, 2));
}

// Sums beyond the end are +0, so codes beyond it are 0, which is what padding is: each 64-byte line
// of codes that holds an element is written whole.
__device__ __forceinline__ void encode_q8(const float (&sums)[kElems], const Place& place,
                                          std::byte* message) {
  std::byte* record = message + record_offset<Q8>(place);
  uint32_t absmax = 0;
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) absmax = larger(absmax, bits_of(sums[i]) & kMagnitudeMask);
  absmax = max_of_lanes<Q8::kBlock / kElems>(absmax);
  const uint16_t scale = Q8::scale_of(absmax);
  const float inverse = Q8::inverse_of(scale);
  if (place.first % Q8::kBlock == 0) {
    store(record + place.first / Q8::kBlock * sizeof(uint16_t), scale);
  }
  uint32_t codes[kElems];
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) {
    codes[i] = static_cast<uint8_t>(Q8::code_of(sums[i], inverse));
  }
  constexpr uint32_t kLine = kMessageAlign;  // codes of a line that is written
  if (place.first / kLine * kLine >= place.elems) return;
  store(record + Q8::kScaleBytes + place.first,
        uint2{bytes_of(codes[0], codes[1], codes[2], codes[3]),
              bytes_of(codes[4], codes[5], codes[6], codes[7])});
}

// The factor of the superblock, and with the last one the padding behind all factors.
__device__ __forceinline__ void store_factor(float factor, const Place& place, std::byte* message) {
  if (threadIdx.x == 0) store(message + place.superblock * sizeof(float), factor);
  const uint64_t last = superblocks(place.total) - 1;
  const uint64_t padding = Q4s::factor_bytes(place.total) + threadIdx.x * sizeof(float);
  if (place.superblock == last && padding < Q4s::head_bytes(place.total)) {
    store(message + padding, uint32_t{0});
  }
}

// Byte j of a block's nibbles holds elements j and j + 16, which two lanes apart have: of each pair
// of lanes the first puts together the first four of its eight bytes, the other the rest.
__device__ __forceinline__ uint32_t paired_nibbles(uint32_t first_four, uint32_t last_four) {
  const bool has_low = threadIdx.x % 4 < 2;
  const uint32_t others = __shfl_xor_sync(0xffffffff, has_low ? last_four : first_four, 2);
  return has_low ? first_four | others << 4 : others | last_four << 4;
}

__device__ __forceinline__ void encode_q4s(const float (&sums)[kElems], const Place& place,
                                           std::byte* message) {
  constexpr uint32_t kZeros = 0x08080808;  // nibbles of four elements that are 0
  uint32_t key = 0;
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) key = larger(key, Q4s::key_of(sums[i]));
  key = max_of_lanes<Q4s::kBlock / kElems>(key);
  const float factor = Q4s::factor_of(max_of_threads(key));
  store_factor(factor, place, message);

  uint8_t scale = 0;
  uint32_t first_four = kZeros, last_four = kZeros;
  if (factor > 0) {  // else there is nothing to tell but zeros, or but NaN
    scale = Q4s::scale_of(key, 1.0f / factor);
    const float inverse = Q4s::inverse_of(factor, scale);
    uint32_t nibbles[kElems];
#pragma unroll
    for (uint32_t i = 0; i < kElems; ++i) nibbles[i] = Q4s::nibble_of(sums[i], inverse);
    first_four = bytes_of(nibbles[0], nibbles[1], nibbles[2], nibbles[3]);
    last_four = bytes_of(nibbles[4], nibbles[5], nibbles[6], nibbles[7]);
  }
  uint32_t bytes = paired_nibbles(first_four, last_four);

  // In a block's 16 bytes, lanes 0 and 2 have the first half, 1 and 3 the second.
  const uint32_t block = place.first / Q4s::kBlock, lane = threadIdx.x % 4;
  std::byte* record = message + record_offset<Q4s>(place);
  if (lane == 0) store(record + block, scale);
  constexpr uint32_t kBytes = Q4s::kBlock / 2, kLine = 2 * kMessageAlign;
  const uint32_t at = block * kBytes + lane % 2 * 8 + lane / 2 * 4;
  // Each 64-byte line that holds an element is written whole; blocks without any are padding.
  if (block * Q4s::kBlock >= place.elems) bytes = 0;
  if (place.first / kLine * kLine >= place.elems) return;
  store(record + Q4s::kScaleBytes + at, bytes);
}

}  // namespace slimccl::quant::cuda
