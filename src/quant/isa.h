// The sources of a kernel row are compiled once per instruction set, with -DSLIMCCL_ISA=<row> and
// other compiler flags. All they define, inline functions included, lies in the inline namespace
// SLIMCCL_ISA: were two rows to share a symbol, the linker could hand AVX-512 code to the scalar
// row. For the same reason they instantiate nothing of std. Everybody else sees the row "scalar",
// the reference.
#pragma once

#include <cstdint>

#ifndef SLIMCCL_ISA
#define SLIMCCL_ISA scalar
#endif

namespace slimccl::quant {
inline namespace SLIMCCL_ISA {

inline uint32_t bits_of(float value) { return __builtin_bit_cast(uint32_t, value); }
inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

inline constexpr uint32_t kMagnitudeMask = 0x7fffffff;
inline constexpr uint32_t kInfinityBits = 0x7f800000;
inline constexpr uint32_t kNanBits = 0x7fc00000;  // the one NaN that we write
inline constexpr float kFloatMax = 0x1.fffffep127f;

// Adding it rounds |value| < 2^22 to the nearest integer, ties to even; the integer is then in the
// low bits of the sum.
inline constexpr float kRounder = 0x1.8p23f;
inline constexpr uint32_t kRounderBits = 0x4b400000;

// Both values are computed: given a conditional, g++ moves the arithmetic of one side behind a
// branch and then finds that floating-point operations, which might trap, may not be moved back out
// to vectorise the loop.
inline uint32_t select(bool condition, uint32_t yes, uint32_t no) {
  const uint32_t mask = 0u - static_cast<uint32_t>(condition);
  return (yes & mask) | (no & ~mask);
}

// In a loop over blocks: keeps g++ from vectorising across blocks, which it does with strided
// loads, a hundred times the code and a tenth of the speed.
inline void one_block_at_a_time() { asm volatile(""); }

}  // namespace SLIMCCL_ISA
}  // namespace slimccl::quant
