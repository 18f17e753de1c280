// Elements of all types, chosen so that every order of a reduction gives the same bits: small
// integers, powers of two for products.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "slimccl/nccl.h"

namespace soak {

inline constexpr int kMaxRanks = 8;
inline constexpr int kPreMulSum = ncclNumOps;  // beside ncclSum to ncclAvg

struct TypeInfo {
  const char* name;
  size_t bytes;
  bool is_signed, is_float;
  int64_t exact;  // integers up to this are exact
};
const TypeInfo& info_of(ncclDataType_t type);

// Writes `value`, which must be exact in `type`.
void encode(ncclDataType_t type, double value, std::byte* into);

// One reduction: who contributes what.
struct Reduction {
  uint64_t seed;
  ncclDataType_t type;
  int op;  // ncclSum ... ncclAvg, or kPreMulSum

  // Element `index` of what `member` puts in, and its scalar of PreMulSum.
  [[nodiscard]] double element(int member, uint64_t index) const;
  [[nodiscard]] double scalar(int member) const;
  // What `members` of them make of it.
  [[nodiscard]] double result(int members, uint64_t index) const;
};

// Whether `members` ranks can average this type exactly.
bool can_average(ncclDataType_t type, int members);

}  // namespace soak
