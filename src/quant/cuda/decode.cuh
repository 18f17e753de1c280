// Readers of one thread's eight elements, one for each form of source. They are made for the first
// source of a run and step from one to the next. What lies beyond the end of the elements comes out
// as any number: nobody may use it.
#pragma once

#include "quant/cuda/access.cuh"
#include "quant/cuda/place.cuh"
#include "quant/cuda/plain.cuh"
#include "quant/half.h"
#include "quant/q4s.h"
#include "quant/q8.h"

namespace slimccl::quant::cuda {

// code - zero for 0 <= code, zero < 2^23, exactly: both sit in the low bits of 2^23, where fp32
// counts in ones. The conversion instruction has a quarter of an addition's rate on sm_80.
__device__ __forceinline__ float difference(uint32_t code, uint32_t zero) {
  constexpr uint32_t kTwo23 = 0x4b000000;
  return float_of(kTwo23 | code) - float_of(kTwo23 | zero);
}

// Two roundings: kernels are compiled without contraction.
__device__ __forceinline__ float plus(float sum, float value, float scale) {
  return sum + value * scale;
}

class Fp32Reader {
 public:
  __device__ Fp32Reader(const std::byte* data, const Place& place)
      : at_(data + plain_offset(place, sizeof(float))), count_(place.count) {}
  __device__ void add_to(float (&sums)[kElems], float scale) const {
    uint32_t words[kElems];
    load_words(at_, count_, words);
#pragma unroll
    for (uint32_t i = 0; i < kElems; ++i) sums[i] = plus(sums[i], float_of(words[i]), scale);
  }
  __device__ void step(uint64_t bytes) { at_ += bytes; }

 private:
  const std::byte* at_;
  uint32_t count_;
};

template <float (*to_float)(uint16_t)>
class HalfReader {
 public:
  __device__ HalfReader(const std::byte* data, const Place& place)
      : at_(data + plain_offset(place, sizeof(uint16_t))), count_(place.count) {}
  __device__ void add_to(float (&sums)[kElems], float scale) const {
    uint32_t pairs[kPairs];
    load_pairs(at_, count_, pairs);
#pragma unroll
    for (uint32_t i = 0; i < kElems; ++i) {
      sums[i] = plus(sums[i], to_float(half_of(pairs, i)), scale);
    }
  }
  __device__ void step(uint64_t bytes) { at_ += bytes; }

 private:
  const std::byte* at_;
  uint32_t count_;
};
using Bf16Reader = HalfReader<bf16_to_float>;
using Fp16Reader = HalfReader<fp16_to_float>;

class Q8Reader {
 public:
  __device__ Q8Reader(const std::byte* message, const Place& place) {
    const std::byte* record = message + record_offset<Q8>(place);
    scale_ = record + place.first / Q8::kBlock * sizeof(uint16_t);
    codes_ = record + Q8::kScaleBytes + place.first;
  }
  __device__ void add_to(float (&sums)[kElems], float scale) const {
    const float factor = Q8::factor_of(load<uint16_t>(scale_));
    const uint2 codes = load<uint2>(codes_);
    // INT8 codes count from -128 when their sign bits are turned around.
    const uint32_t words[] = {codes.x ^ 0x80808080, codes.y ^ 0x80808080};
#pragma unroll
    for (uint32_t i = 0; i < kElems; ++i) {
      const uint32_t code = words[i / 4] >> i % 4 * 8 & 255;
      sums[i] = plus(sums[i], clamp_to_finite(difference(code, 128) * factor), scale);
    }
  }
  __device__ void step(uint64_t bytes) { scale_ += bytes, codes_ += bytes; }

 private:
  const std::byte *scale_, *codes_;
};

class Q4sReader {
 public:
  __device__ Q4sReader(const std::byte* message, const Place& place) {
    constexpr uint32_t kHalf = Q4s::kBlock / 2;
    const std::byte* record = message + record_offset<Q4s>(place);
    const uint32_t block = place.first / Q4s::kBlock, from = place.first % Q4s::kBlock;
    factor_ = message + place.superblock * sizeof(float);
    scale_ = record + block;
    nibbles_ = record + Q4s::kScaleBytes + block * kHalf + from % kHalf;
    shift_ = from < kHalf ? 0 : 4;  // the second half of a block is in the high halves of its bytes
  }
  __device__ void add_to(float (&sums)[kElems], float scale) const {
    const float factor =
        canonical(load<float>(factor_) * Q4s::e4m3_to_float(load<uint8_t>(scale_)));
    const uint2 nibbles = load<uint2>(nibbles_);
    const uint32_t words[] = {nibbles.x >> shift_, nibbles.y >> shift_};
#pragma unroll
    for (uint32_t i = 0; i < kElems; ++i) {
      const uint32_t code = words[i / 4] >> i % 4 * 8 & 15;
      sums[i] = plus(sums[i], clamp_to_finite(difference(code, 8) * factor), scale);
    }
  }
  __device__ void step(uint64_t bytes) { factor_ += bytes, scale_ += bytes, nibbles_ += bytes; }

 private:
  const std::byte *factor_, *scale_, *nibbles_;
  uint32_t shift_;
};

}  // namespace slimccl::quant::cuda
