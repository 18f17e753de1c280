// q4s messages, docs/formats/q4s.md: fp32 factors of all superblocks, then one record per
// superblock: 64 signed E4M3 scales and 2048 nibbles. Here are the layout and the arithmetic of one
// block, for all rows of the kernel table.
#pragma once

#include <cstdint>

#include "quant/bits.h"
#include "quant/fp8.h"
#include "quant/layout.h"

namespace slimccl::quant {

struct Q4s {
  static constexpr uint64_t kBlock = 32;  // elements under one scale
  static constexpr uint64_t kBlocks = kSuperblock / kBlock;
  static constexpr uint64_t kScaleBytes = kBlocks;
  static constexpr uint64_t kRecordBytes = kScaleBytes + kSuperblock / 2;
  static constexpr uint8_t kZeroNibbles = 0x88;  // two codes 0

  // Where the records of a message of `elems` elements start: behind the factors.
  SLIMCCL_HD static constexpr uint64_t head_bytes(uint64_t elems) {
    return (factor_bytes(elems) + kMessageAlign - 1) / kMessageAlign * kMessageAlign;
  }
  // The part of that in use: the rest is padding.
  SLIMCCL_HD static constexpr uint64_t factor_bytes(uint64_t elems) {
    return superblocks(elems) * sizeof(float);
  }
  // The used part of a record that holds its first `elems` elements only.
  SLIMCCL_HD static constexpr uint64_t record_bytes(uint64_t elems) {
    return elems == 0 ? 0 : kScaleBytes + (elems + kBlock - 1) / kBlock * (kBlock / 2);
  }

  // An element's bits rotated left by one: the largest key is the largest magnitude, the negative
  // one of a tie.
  SLIMCCL_HD static uint32_t key_of(float elem) { return bits_of(elem) << 1 | bits_of(elem) >> 31; }

  // The factor of a superblock from its largest key: NaN if something is not finite, 0 if all is
  // too small. 1 / 3584 is 1 / 8 / 448: the largest block gets the largest scale.
  SLIMCCL_HD static float factor_of(uint32_t largest_key) {
    const uint32_t absmax = largest_key >> 1;
    const float factor = float_of(absmax) * (1.0f / 3584.0f);
    if (absmax >= kInfinityBits) return float_of(kNanBits);
    return factor < 0x1p-100f ? 0.0f : factor;  // below, 1 / scale could overflow
  }

  // The E4M3 scale of a block from its key. The peak gets -8 times its scale, so the scale carries
  // its sign, and the code 8 that INT4 lacks is never missed there.
  SLIMCCL_HD static uint8_t scale_of(uint32_t key, float inverse_factor) {
    constexpr float kMost = 448.0f;
    float value = float_of(key >> 1 | key << 31) * -0.125f * inverse_factor;
    value = kMost < value ? kMost : value;
    return float_to_e4m3(-kMost > value ? -kMost : value);
  }
  // What elements are multiplied by, for a finite factor.
  SLIMCCL_HD static float inverse_of(float factor, uint8_t scale) {
    const float value = factor * e4m3_to_float(scale);
    return value == 0 ? 0.0f : 1.0f / value;
  }

  // The nearest integer, clamped to -8 .. 7, plus 8.
  SLIMCCL_HD static uint32_t nibble_of(float elem, float inverse) {
    constexpr int32_t kZero = kRounderBits;
    int32_t code = static_cast<int32_t>(bits_of(elem * inverse + kRounder));
    code = code > kZero - 8 ? code : kZero - 8;
    code = code < kZero + 7 ? code : kZero + 7;
    return static_cast<uint32_t>(code - (kZero - 8));
  }

  // To the nearest E4M3, ties to even, |value| <= 448. No negative zero.
  SLIMCCL_HD static uint8_t float_to_e4m3(float value) {
    const uint32_t bits = bits_of(value), code = magnitude_to_e4m3(bits & kMagnitudeMask);
    return static_cast<uint8_t>(select(code == 0, 0, code | (bits >> 24 & 0x80)));
  }
  SLIMCCL_HD static float e4m3_to_float(uint8_t code) { return finite_e4m3_to_float(code); }
};

}  // namespace slimccl::quant
