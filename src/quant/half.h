// bf16 and fp16 to fp32 and back: with fp8.h, the only such conversions in the tree. Rounding is to
// nearest even, denormals are exact, and every NaN becomes the one quiet positive NaN. Selects
// instead of branches, so that loops vectorise.
#pragma once

#include <cstdint>

#include "quant/bits.h"

namespace slimccl::quant {

inline constexpr uint32_t kBf16MaxBits = 0x7f7f0000;  // largest finite values, as fp32
inline constexpr uint32_t kFp16MaxBits = 0x477fe000;  // 65504

SLIMCCL_HD inline float bf16_to_float(uint16_t half) { return float_of(uint32_t{half} << 16); }

SLIMCCL_HD inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return static_cast<uint16_t>((bits & kMagnitudeMask) > kInfinityBits ? kNanBits >> 16 : rounded);
}

SLIMCCL_HD inline float fp16_to_float(uint16_t half) {
  constexpr uint32_t kRebias = uint32_t{127 - 15} << 23;
  constexpr uint32_t kSmallest = 0x38800000;  // 2^-14, the smallest normal fp16
  const uint32_t magnitude = uint32_t{half & 0x7fffu} << 13;
  // A denormal's fraction is hung under the implicit one of 2^-14, which is then subtracted: exact.
  const uint32_t denormal = bits_of(float_of(magnitude + kSmallest) - float_of(kSmallest));
  const uint32_t normal = magnitude + kRebias;
  uint32_t bits = select(magnitude < 0x00800000, denormal, normal);
  bits = select(magnitude >= 0x0f800000, normal + kRebias, bits);  // infinity and NaN
  return float_of(bits | uint32_t{half & 0x8000u} << 16);
}

SLIMCCL_HD inline uint16_t float_to_fp16(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t magnitude = bits & kMagnitudeMask;
  const uint32_t normal =
      (magnitude - (uint32_t{127 - 15} << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // Beside 1/2 one fp32 ulp is 2^-24, the unit of fp16 denormals: the addition itself does the
  // rounding.
  const uint32_t denormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000;
  uint32_t half = select(magnitude < 0x38800000, denormal, normal);
  half = select(magnitude >= 0x477ff000, 0x7c00, half);  // 65520 and up round to infinity
  half |= bits >> 16 & 0x8000;
  return static_cast<uint16_t>(select(magnitude > kInfinityBits, 0x7e00, half));
}

}  // namespace slimccl::quant
