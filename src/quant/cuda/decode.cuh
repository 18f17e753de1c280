// One thread's eight elements of a source as fp32, whatever the source's form. What lies beyond the
// end of the elements comes out as any number: nobody may use it.
#pragma once

#include "quant/cuda/access.cuh"
#include "quant/cuda/place.cuh"
#include "quant/cuda/plain.cuh"
#include "quant/form.h"
#include "quant/half.h"
#include "quant/q4s.h"
#include "quant/q8.h"

namespace slimccl::quant::cuda {

// code - zero for 0 <= code, zero < 2^23, exactly: both sit in the low bits of 2^23, where fp32
// counts in ones. The conversion instruction has a quarter of an addition's rate, or less.
__device__ __forceinline__ float difference(uint32_t code, uint32_t zero) {
  constexpr uint32_t kTwo23 = 0x4b000000;
  return float_of(kTwo23 | code) - float_of(kTwo23 | zero);
}

__device__ __forceinline__ void add(float value, float scale, float& sum) {
  sum = sum + value * scale;
}

__device__ __forceinline__ void decode_fp32(const std::byte* data, const Place& place,
                                            float scale, float (&sums)[kElems]) {
  uint32_t words[kElems];
  load_words(data + plain_offset(place, 4), place.count, words);
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) add(float_of(words[i]), scale, sums[i]);
}

__device__ __forceinline__ void decode_half(Form form, const std::byte* data, const Place& place,
                                            float scale, float (&sums)[kElems]) {
  uint32_t pairs[kPairs];
  load_pairs(data + plain_offset(place, 2), place.count, pairs);
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) {
    const uint16_t half = half_of(pairs, i);
    add(form == Form::kBf16 ? bf16_to_float(half) : fp16_to_float(half), scale, sums[i]);
  }
}

__device__ __forceinline__ void decode_q8(const std::byte* message, const Place& place,
                                          float scale, float (&sums)[kElems]) {
  const std::byte* record = message + record_offset<Q8>(place);
  const float factor =
      Q8::factor_of(load<uint16_t>(record + place.first / Q8::kBlock * sizeof(uint16_t)));
  const uint2 codes = load<uint2>(record + Q8::kScaleBytes + place.first);
  // INT8 codes count from -128 when their sign bits are turned around.
  const uint32_t words[] = {codes.x ^ 0x80808080, codes.y ^ 0x80808080};
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) {
    const uint32_t code = words[i / 4] >> i % 4 * 8 & 255;
    add(clamp_to_finite(difference(code, 128) * factor), scale, sums[i]);
  }
}

__device__ __forceinline__ void decode_q4s(const std::byte* message, const Place& place,
                                           float scale, float (&sums)[kElems]) {
  constexpr uint32_t kHalf = Q4s::kBlock / 2;
  const std::byte* record = message + record_offset<Q4s>(place);
  const uint32_t block = place.first / Q4s::kBlock, from = place.first % Q4s::kBlock;
  const float factor = load<float>(message + place.superblock * sizeof(float));
  const float block_scale = canonical(factor * Q4s::e4m3_to_float(load<uint8_t>(record + block)));
  const uint2 nibbles = load<uint2>(record + Q4s::kScaleBytes + block * kHalf + from % kHalf);
  const uint32_t shift = from < kHalf ? 0 : 4;  // the second half of a block is in the high halves
  const uint32_t words[] = {nibbles.x >> shift, nibbles.y >> shift};
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) {
    const uint32_t code = words[i / 4] >> i % 4 * 8 & 15;
    add(clamp_to_finite(difference(code, 8) * block_scale), scale, sums[i]);
  }
}

}  // namespace slimccl::quant::cuda
