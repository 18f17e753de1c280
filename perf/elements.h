// The tensor types of a perf run as numbers, independent of the library's own conversions, so that
// a fault there cannot hide itself in the check.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

#include "slimccl/nccl.h"

namespace slimccl::perf {

inline size_t element_bytes(ncclDataType_t type) { return type == ncclFloat32 ? 4 : 2; }
inline const char* element_name(ncclDataType_t type) {
  return type == ncclFloat32 ? "float" : type == ncclFloat16 ? "half" : "bfloat16";
}

// Rounds to nearest even at `keep` significant bits, no smaller step than 2^least.
inline double round_to(double value, int keep, int least) {
  if (value == 0 || !std::isfinite(value)) return value;
  const int step = std::max(std::ilogb(value) - keep + 1, least);
  return std::ldexp(std::nearbyint(std::ldexp(value, -step)), step);
}

// `value` as the nearest number of `type`.
inline double nearest(double value, ncclDataType_t type) {
  if (type == ncclFloat16) return round_to(value, 11, -24);
  if (type == ncclBfloat16) return round_to(value, 8, -133);
  return round_to(value, 24, -149);
}

// Half the distance between neighbours of `type` at `value`.
inline double half_step(double value, ncclDataType_t type) {
  const int keep = type == ncclFloat16 ? 11 : type == ncclBfloat16 ? 8 : 24;
  const int least = type == ncclFloat16 ? -24 : type == ncclBfloat16 ? -133 : -149;
  const int step = value == 0 ? least : std::max(std::ilogb(value) - keep + 1, least);
  return std::ldexp(0.5, step);
}

inline uint16_t to_half_bits(float value) {  // value is a finite half already
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const float size = std::fabs(value);
  if (size < 0x1p-14f) return static_cast<uint16_t>(sign | static_cast<uint16_t>(size * 0x1p24f));
  const int exponent = std::ilogb(size);
  const auto fraction = static_cast<uint16_t>(std::ldexp(size, 10 - exponent));
  return static_cast<uint16_t>(sign | ((exponent + 15) << 10) | (fraction & 0x3ff));
}

// `number` must be a number of `type` already; see nearest().
inline void store(void* tensor, size_t index, float number, ncclDataType_t type) {
  if (type == ncclFloat32) {
    static_cast<float*>(tensor)[index] = number;
  } else if (type == ncclFloat16) {
    static_cast<uint16_t*>(tensor)[index] = to_half_bits(number);
  } else {
    uint32_t bits = 0;
    std::memcpy(&bits, &number, 4);
    static_cast<uint16_t*>(tensor)[index] = static_cast<uint16_t>(bits >> 16);
  }
}

inline double load(const void* tensor, size_t index, ncclDataType_t type) {
  if (type == ncclFloat32) return static_cast<const float*>(tensor)[index];
  const uint16_t bits = static_cast<const uint16_t*>(tensor)[index];
  if (type == ncclBfloat16) {
    const uint32_t wide = uint32_t{bits} << 16;
    float number = 0;
    std::memcpy(&number, &wide, 4);
    return number;
  }
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 0x3ff;
  const double size = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
                      : exponent == 0 ? std::ldexp(fraction, -24)
                                      : std::ldexp(fraction + 1024, exponent - 25);
  return (bits & 0x8000) != 0 ? -size : size;
}

}  // namespace slimccl::perf
