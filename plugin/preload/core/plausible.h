// Whether a sample of a call's own input looks like weights or gradients, or like what compression
// would ruin: codes packed into floats, an optimizer's second moments. Pure.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "slimccl/nccl.h"

namespace slimccl::overlay {

// kNothing: no finite element that is not zero; it speaks neither for nor against.
enum class Content : uint8_t { kNothing, kPlausible, kImplausible };

// What more need not be looked at.
inline constexpr uint64_t kSampleElems = 16384;

// What q8 would do to the finite elements of a sample. Infinities and NaN are left out: a gradient
// that overflowed is a gradient.
struct Look {
  uint64_t nonzero = 0;
  uint64_t zeroed = 0;    // of these: what becomes zero, for its block has far larger ones
  uint64_t negative = 0;  // of these
};
// `sample`: elements of fp32, bf16 or fp16, host memory at any alignment; runs of 64 neighbours.
[[nodiscard]] Look look_at(ConstBytes sample, ncclDataType_t type);
[[nodiscard]] Content content_of(const Look& look);
[[nodiscard]] inline Content content_of(ConstBytes sample, ncclDataType_t type) {
  return content_of(look_at(sample, type));
}

}  // namespace slimccl::overlay
