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

// digits: significant bits; step: the exponent of the smallest distance between two numbers.
struct ElementType {
  const char* name;  // nccl-tests'
  uint8_t bytes;
  bool is_float, is_signed;
  int digits, step;
};

inline constexpr ElementType kElementTypes[ncclNumTypes] = {
    {"int8", 1, false, true, 7, 0},       {"uint8", 1, false, false, 8, 0},
    {"int32", 4, false, true, 31, 0},     {"uint32", 4, false, false, 32, 0},
    {"int64", 8, false, true, 63, 0},     {"uint64", 8, false, false, 64, 0},
    {"half", 2, true, true, 11, -24},     {"float", 4, true, true, 24, -149},
    {"double", 8, true, true, 53, -1074}, {"bfloat16", 2, true, true, 8, -133},
    {"f8e4m3", 1, true, true, 4, -9},     {"f8e5m2", 1, true, true, 3, -16}};

inline const ElementType& element(ncclDataType_t type) { return kElementTypes[type]; }
inline size_t element_bytes(ncclDataType_t type) { return element(type).bytes; }
inline const char* element_name(ncclDataType_t type) { return element(type).name; }

// The exponent of the distance between neighbours at `value`.
inline int step_at(double value, ncclDataType_t type) {
  const ElementType& of = element(type);
  return value == 0 ? of.step : std::max(std::ilogb(value) - of.digits + 1, of.step);
}

// `value` as the nearest number of `type`, ties to even. Overflow is not looked at.
inline double nearest(double value, ncclDataType_t type) {
  if (value == 0 || !std::isfinite(value)) return value;
  const int step = element(type).is_float ? step_at(value, type) : 0;
  return std::ldexp(std::nearbyint(std::ldexp(value, -step)), step);
}

// Half the distance between neighbours of the float `type` at `value`.
inline double half_step(double value, ncclDataType_t type) {
  return std::ldexp(0.5, step_at(value, type));
}

// Sign, exponent and fraction of a finite number of a float type of up to two bytes.
inline uint16_t small_float_bits(double number, ncclDataType_t type) {
  const ElementType& of = element(type);
  const int fraction_bits = of.digits - 1;
  const uint32_t sign = std::signbit(number) ? 1u << (8 * of.bytes - 1) : 0;
  const double size = std::fabs(number);
  const double least_normal = std::ldexp(1, of.step + fraction_bits);
  if (size < least_normal)
    return static_cast<uint16_t>(sign | std::lround(std::ldexp(size, -of.step)));
  const int exponent = std::ilogb(size);
  const auto fraction = static_cast<uint32_t>(std::ldexp(size, fraction_bits - exponent));
  const auto biased = static_cast<uint32_t>(exponent - (of.step + fraction_bits) + 1);
  return static_cast<uint16_t>(sign | biased << fraction_bits |
                               (fraction & ((1u << fraction_bits) - 1)));
}

// `number` must be a finite number of `type` already; see nearest().
inline void store(void* tensor, size_t index, double number, ncclDataType_t type) {
  const size_t bytes = element_bytes(type);
  uint64_t bits = 0;
  if (!element(type).is_float) {
    bits = number < 0 ? static_cast<uint64_t>(static_cast<int64_t>(number))
                      : static_cast<uint64_t>(number);
  } else if (type == ncclFloat64) {
    std::memcpy(&bits, &number, 8);
  } else if (type == ncclFloat32) {
    const auto narrow = static_cast<float>(number);
    std::memcpy(&bits, &narrow, 4);
  } else {
    bits = small_float_bits(number, type);
  }
  std::memcpy(static_cast<char*>(tensor) + index * bytes, &bits, bytes);
}

inline double small_float(uint32_t bits, ncclDataType_t type) {
  const ElementType& of = element(type);
  const int fraction_bits = of.digits - 1;
  const uint32_t magnitude = bits & ((1u << (8 * of.bytes - 1)) - 1);
  const auto biased = static_cast<int>(magnitude >> fraction_bits);
  const uint32_t fraction = magnitude & ((1u << fraction_bits) - 1);
  const int most = (1 << (8 * of.bytes - 1 - fraction_bits)) - 1;
  double size = biased == 0 ? std::ldexp(fraction, of.step)
                            : std::ldexp(fraction + (1u << fraction_bits), of.step + biased - 1);
  if (type == ncclFloat8e4m3) {
    if (magnitude == 0x7f) size = NAN;  // it has no infinity
  } else if (biased == most) {
    size = fraction != 0 ? NAN : INFINITY;
  }
  return magnitude == bits ? size : -size;
}

// 64-bit integers beyond 2^53 are rounded.
inline double load(const void* tensor, size_t index, ncclDataType_t type) {
  const ElementType& of = element(type);
  uint64_t bits = 0;
  std::memcpy(&bits, static_cast<const char*>(tensor) + index * of.bytes, of.bytes);
  if (type == ncclFloat64) {
    double number = 0;
    std::memcpy(&number, &bits, 8);
    return number;
  }
  if (type == ncclFloat32) {
    float number = 0;
    std::memcpy(&number, &bits, 4);
    return number;
  }
  if (of.is_float) return small_float(static_cast<uint32_t>(bits), type);
  if (!of.is_signed) return static_cast<double>(bits);
  const int unused = 64 - 8 * of.bytes;
  return static_cast<double>(static_cast<int64_t>(bits << unused) >> unused);
}

}  // namespace slimccl::perf
