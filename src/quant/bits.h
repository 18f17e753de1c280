// fp32 values as bits, for the host and for CUDA kernels: what all rows of the kernel table share.
#pragma once

#include <cstdint>

// A function that CUDA kernels call too.
#if defined(__CUDACC__)
#define SLIMCCL_HD __host__ __device__
#else
#define SLIMCCL_HD
#endif

namespace slimccl::quant {

SLIMCCL_HD inline uint32_t bits_of(float value) { return __builtin_bit_cast(uint32_t, value); }
SLIMCCL_HD inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

inline constexpr uint32_t kMagnitudeMask = 0x7fffffff;
inline constexpr uint32_t kInfinityBits = 0x7f800000;
inline constexpr uint32_t kNanBits = 0x7fc00000;  // the one NaN that we write
inline constexpr uint32_t kMaxBits = 0x7f7fffff;  // the largest finite value
inline constexpr float kFloatMax = 0x1.fffffep127f;

// Adding it rounds |value| < 2^22 to the nearest integer, ties to even; the integer is then in the
// low bits of the sum.
inline constexpr float kRounder = 0x1.8p23f;
inline constexpr uint32_t kRounderBits = 0x4b400000;

SLIMCCL_HD inline uint32_t select(bool condition, uint32_t yes, uint32_t no) {
  const uint32_t mask = 0u - static_cast<uint32_t>(condition);
  return (yes & mask) | (no & ~mask);
}

// Which NaN a sum yields depends on the order of its operands, which no compiler promises, and on
// the machine: so there is only one.
SLIMCCL_HD inline float canonical(float value) {
  const uint32_t bits = bits_of(value);
  return float_of((bits & kMagnitudeMask) > kInfinityBits ? kNanBits : bits);
}

// A finite product that overflowed becomes the largest finite value; NaN stays.
SLIMCCL_HD inline float clamp_to_finite(float value) {
  value = kFloatMax < value ? kFloatMax : value;
  return -kFloatMax > value ? -kFloatMax : value;
}

// Finite values beyond `max_bits` become that value; infinities and NaN stay.
SLIMCCL_HD inline float saturated(float value, uint32_t max_bits) {
  const uint32_t bits = bits_of(value), magnitude = bits & kMagnitudeMask;
  const uint32_t limited = magnitude > max_bits ? max_bits : magnitude;
  return float_of((magnitude < kInfinityBits ? limited : magnitude) | (bits & ~kMagnitudeMask));
}

}  // namespace slimccl::quant
