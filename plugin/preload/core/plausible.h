// Whether a sample of a call's own input looks like weights or gradients, or like what compression
// would ruin: codes packed into floats, an optimizer's second moments. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "slimccl/nccl.h"

namespace slimccl::overlay {

// kNothing: too few finite elements that are not zero; it speaks neither for nor against.
enum class Content : uint8_t { kNothing, kPlausible, kImplausible };

// A sample: so many elements at most, in runs of neighbours.
inline constexpr uint64_t kSampleElems = 16384, kRunElems = 1024;
struct SampleRun {
  uint64_t begin, elems;

  bool operator==(const SampleRun&) const = default;
};
// Spread over all of an input, for it may hold several things one after the other.
[[nodiscard]] std::vector<SampleRun> sample_runs(uint64_t elems);

// What q8 would do to the finite elements of a sample. Infinities and NaN are left out: a gradient
// that overflowed is a gradient.
struct Look {
  uint64_t elems = 0;
  uint64_t nonzero = 0;
  uint64_t zeroed = 0;    // of these: what becomes zero, for its block has far larger ones
  uint64_t negative = 0;  // of these
  double worst = 0;       // the largest share of zeroed ones in any run of the sample
};
// `sample`: the runs one after the other, of fp32, bf16 or fp16; host memory at any alignment.
[[nodiscard]] Look look_at(ConstBytes sample, ncclDataType_t type);
[[nodiscard]] Content content_of(const Look& look);
[[nodiscard]] inline Content content_of(ConstBytes sample, ncclDataType_t type) {
  return content_of(look_at(sample, type));
}

}  // namespace slimccl::overlay
