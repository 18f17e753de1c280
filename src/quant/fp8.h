// The two fp8 types of OCP to fp32 and back, in the manner of half.h: nearest even, denormals
// exact, every NaN becomes the one positive NaN. e4m3 ("fn") has no infinity, 448 is its largest
// value and 0x7f its NaN; e5m2 is fp16 cut short, with infinities, largest value 57344.
//
// What overflows stays visible, for a loss scaler to see: e5m2 gives infinity, e4m3 gives NaN, for
// infinities too. Nothing saturates.
#pragma once

#include <cstdint>

#include "quant/bits.h"
#include "quant/half.h"

namespace slimccl::quant {

// The nearest code, without sign, for the bits of a magnitude up to 464.
SLIMCCL_HD inline uint32_t magnitude_to_e4m3(uint32_t magnitude) {
  const uint32_t denormal = bits_of(float_of(magnitude) * 512.0f + kRounder) - kRounderBits;
  const uint32_t normal = ((magnitude + 0x7ffff + (magnitude >> 20 & 1)) >> 20) - 960;
  return select(magnitude < 0x3c800000, denormal, normal);  // 2^-6
}

// NaN codes count as +-480.
SLIMCCL_HD inline float finite_e4m3_to_float(uint8_t code) {
  const uint32_t magnitude = code & 0x7fu;
  const float normal = float_of((magnitude + 960) << 20);
  // Denormals lack the implicit one: m / 512 = 2 * normal - 2^-6.
  const float value = normal + float_of(select(magnitude < 8, bits_of(normal - 0x1p-6f), 0));
  return float_of(bits_of(value) | uint32_t{code & 0x80u} << 24);
}

SLIMCCL_HD inline float e4m3_to_float(uint8_t code) {
  const uint32_t finite = bits_of(finite_e4m3_to_float(code));
  return float_of(select((code & 0x7f) == 0x7f, kNanBits, finite));
}

SLIMCCL_HD inline uint8_t float_to_e4m3(float value) {
  const uint32_t bits = bits_of(value), magnitude = bits & kMagnitudeMask;
  const uint32_t code = magnitude_to_e4m3(magnitude) | (bits >> 24 & 0x80);
  // 464, half way from 448 to what would be 480, is the last to round to 448.
  return static_cast<uint8_t>(select(magnitude > 0x43e80000, 0x7f, code));
}

SLIMCCL_HD inline float e5m2_to_float(uint8_t code) {
  return fp16_to_float(static_cast<uint16_t>(code << 8));
}

// Not by way of fp16, which would round twice.
SLIMCCL_HD inline uint8_t float_to_e5m2(float value) {
  const uint32_t bits = bits_of(value), magnitude = bits & kMagnitudeMask;
  const uint32_t normal =
      (magnitude - (uint32_t{127 - 15} << 23) + 0xfffff + (magnitude >> 21 & 1)) >> 21;
  // Beside 128 one fp32 ulp is 2^-16, the unit of e5m2 denormals.
  const uint32_t denormal = bits_of(float_of(magnitude) + 128.0f) - 0x43000000;
  uint32_t code = select(magnitude < 0x38800000, denormal, normal);  // 2^-14
  code = select(magnitude >= 0x47700000, 0x7c, code);  // 61440 and up round to infinity
  code |= bits >> 24 & 0x80;
  return static_cast<uint8_t>(select(magnitude > kInfinityBits, 0x7e, code));
}

}  // namespace slimccl::quant
