// Floats of any format by the textbook, in fp64 and by search, for tests of the real conversions.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "slimccl/nccl.h"

namespace slimccl::quant::testing {

struct Textbook {
  int bits, fraction, bias;
  uint32_t beyond;  // the code after the largest finite one
  uint32_t nan;     // the one that is written
  bool has_infinity;

  uint32_t sign_bit() const { return 1u << (bits - 1); }

  // As if all exponents were of finite values.
  double finite(uint32_t magnitude) const {
    const auto exponent = static_cast<int>(magnitude >> fraction);
    const double part = magnitude & ((1u << fraction) - 1);
    return exponent == 0 ? std::ldexp(part, 1 - bias - fraction)
                         : std::ldexp(part + std::ldexp(1, fraction), exponent - bias - fraction);
  }

  double value(uint32_t code) const {
    const uint32_t magnitude = code & (sign_bit() - 1);
    double result = finite(magnitude);
    if (magnitude >= beyond) result = std::numeric_limits<double>::quiet_NaN();
    if (magnitude == beyond && has_infinity) result = std::numeric_limits<double>::infinity();
    return code & sign_bit() ? -result : result;
  }

  // Looks at both neighbours of a number, the even one wins a tie.
  uint32_t nearest(double number) const {
    if (std::isnan(number)) return nan;
    const double magnitude = std::fabs(number);
    uint32_t low = 0, high = beyond;
    while (high - low > 1) {
      const uint32_t middle = (low + high) / 2;
      (finite(middle) <= magnitude ? low : high) = middle;
    }
    const double down = magnitude - finite(low), up = finite(high) - magnitude;
    const uint32_t code = up < down || (up == down && low % 2 == 1) ? high : low;
    if (code == beyond && !has_infinity) return nan;
    return code | (std::signbit(number) ? sign_bit() : 0);
  }
};

inline constexpr Textbook kFp32Book = {32, 23, 127, 0x7f800000, 0x7fc00000, true};
inline constexpr Textbook kFp16Book = {16, 10, 15, 0x7c00, 0x7e00, true};
inline constexpr Textbook kBf16Book = {16, 7, 127, 0x7f80, 0x7fc0, true};
inline constexpr Textbook kE4m3Book = {8, 3, 7, 0x7f, 0x7f, false};
inline constexpr Textbook kE5m2Book = {8, 2, 15, 0x7c, 0x7e, true};

// Floats up to fp32; null for other types.
inline const Textbook* textbook(ncclDataType_t type) {
  switch (type) {
    case ncclFloat32:
      return &kFp32Book;
    case ncclFloat16:
      return &kFp16Book;
    case ncclBfloat16:
      return &kBf16Book;
    case ncclFloat8e4m3:
      return &kE4m3Book;
    case ncclFloat8e5m2:
      return &kE5m2Book;
    default:
      return nullptr;
  }
}

}  // namespace slimccl::quant::testing
