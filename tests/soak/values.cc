#include "soak/values.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "soak/random.h"

namespace soak {
namespace {

constexpr TypeInfo kTypes[] = {
    {"int8", 1, true, false, 120},        {"uint8", 1, false, false, 240},
    {"int32", 4, true, false, 1 << 30},   {"uint32", 4, false, false, 1LL << 31},
    {"int64", 8, true, false, 1LL << 50}, {"uint64", 8, false, false, 1LL << 50},
    {"fp16", 2, true, true, 2048},        {"fp32", 4, true, true, 1 << 24},
    {"fp64", 8, true, true, 1LL << 50},   {"bf16", 2, true, true, 256},
    {"e4m3", 1, true, true, 16},          {"e5m2", 1, true, true, 8},
};

// Sign, exponent and fraction of an IEEE-like type; every value here is exact and finite.
uint32_t minifloat(double value, int exponent_bits, int fraction_bits) {
  if (value == 0) return 0;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  int exponent = 0;
  (void)std::frexp(std::fabs(value), &exponent);
  exponent = std::max(exponent - 1, 1 - bias);
  const double units = std::ldexp(std::fabs(value), fraction_bits - exponent);
  const auto whole = static_cast<uint32_t>(units);
  if (whole != units) std::abort();  // not exact: a mistake of this program
  const uint32_t one = 1u << fraction_bits;
  const uint32_t biased = whole < one ? 0 : static_cast<uint32_t>(exponent + bias);
  const uint32_t sign = value < 0 ? 1u << (exponent_bits + fraction_bits) : 0;
  return sign | biased << fraction_bits | (whole & (one - 1));
}

template <class T>
void store(T value, std::byte* into) {
  std::memcpy(into, &value, sizeof value);
}

// Uniform in [-limit, limit], or [1, limit] of what has no sign; never 0, whose sign depends.
double nonzero(const TypeInfo& info, uint64_t bits, int64_t limit) {
  const auto magnitude = static_cast<double>(1 + bits / 2 % static_cast<uint64_t>(limit));
  return info.is_signed && bits % 2 == 1 ? -magnitude : magnitude;
}

}  // namespace

const TypeInfo& info_of(ncclDataType_t type) { return kTypes[type]; }

void encode(ncclDataType_t type, double value, std::byte* into) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return store(static_cast<uint8_t>(static_cast<int64_t>(value)), into);
    case ncclInt32:
    case ncclUint32:
      return store(static_cast<uint32_t>(static_cast<int64_t>(value)), into);
    case ncclInt64:
    case ncclUint64:
      return store(static_cast<int64_t>(value), into);
    case ncclFloat16:
      return store(static_cast<uint16_t>(minifloat(value, 5, 10)), into);
    case ncclBfloat16:
      return store(static_cast<uint16_t>(minifloat(value, 8, 7)), into);
    case ncclFloat8e4m3:
      return store(static_cast<uint8_t>(minifloat(value, 4, 3)), into);
    case ncclFloat8e5m2:
      return store(static_cast<uint8_t>(minifloat(value, 5, 2)), into);
    case ncclFloat32:
      return store(static_cast<float>(value), into);
    default:
      return store(value, into);
  }
}

double Reduction::element(int member, uint64_t index) const {
  const TypeInfo& info = info_of(type);
  const uint64_t bits = mix(seed ^ static_cast<uint64_t>(member) << 56, index);
  switch (op) {
    case ncclProd: {
      // Products of eight stay within the smallest type; integers have no halves.
      const bool twice = bits % 4 == 1 && (info.is_float || member < 6);
      const double magnitude = twice ? 2 : bits % 4 == 2 && info.is_float ? 0.5 : 1;
      return info.is_signed && bits % 8 > 4 ? -magnitude : magnitude;
    }
    case ncclMax:
    case ncclMin:
      return nonzero(info, bits, info.exact);
    case kPreMulSum:
      return nonzero(info, bits, std::max<int64_t>(1, info.exact / (3 * kMaxRanks)));
    default:
      return nonzero(info, bits, info.exact / kMaxRanks);
  }
}

double Reduction::scalar(int member) const {
  const TypeInfo& info = info_of(type);
  const int64_t limit = std::min<int64_t>(3, info.exact / kMaxRanks);
  return nonzero(info, mix(seed, 1000 + static_cast<uint64_t>(member)), limit);
}

double Reduction::result(int members, uint64_t index) const {
  double value = op == kPreMulSum ? element(0, index) * scalar(0) : element(0, index);
  for (int member = 1; member < members; ++member) {
    const double next = element(member, index);
    switch (op) {
      case ncclProd:
        value *= next;
        break;
      case ncclMax:
        value = std::max(value, next);
        break;
      case ncclMin:
        value = std::min(value, next);
        break;
      case kPreMulSum:
        value += next * scalar(member);
        break;
      default:
        value += next;
    }
  }
  if (op != ncclAvg) return value;
  if (info_of(type).is_float) return value / members;
  return static_cast<double>(static_cast<int64_t>(value) / members);  // toward zero
}

bool can_average(ncclDataType_t type, int members) {
  return !info_of(type).is_float || (members & (members - 1)) == 0;
}

}  // namespace soak
