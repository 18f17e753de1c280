// The 64-bit tags of a communicator's messages: what must not be taken for one another.
//
//   collective   0 | call 10 | kind 3 | type 4 | reduction 3 | segment 20 | step 23
//   transfer     1 | note 1 | number 62
// Two ranks that make different calls find no message of the other's that fits, and wait: the
// watchdog then says who does what. The call's number may wrap: the rows without a root make all
// ranks meet, and of those with one each sender hears its receivers; by the chain a rank can be at
// most as many calls ahead of another as there are ranks.
#pragma once

#include <cstdint>

#include "collectives/chain.h"
#include "collectives/plan.h"
#include "collectives/plan_writer.h"

namespace slimccl::runtime {

inline constexpr int kCallBits = 10, kSegmentBits = 20;
static_assert(collectives::chain::kMostRanks <= 1 << kCallBits);
inline constexpr uint64_t kMaxSegments = uint64_t{1} << kSegmentBits;

[[nodiscard]] constexpr uint64_t reduction_code(const collectives::Shape& shape) {
  if (shape.reduction != collectives::Reduction::kSum)
    return 3 + static_cast<uint64_t>(shape.reduction);
  return shape.divides ? 3 : static_cast<uint64_t>(shape.scaling);
}

// Tags of one call; its segments and steps are added.
[[nodiscard]] constexpr uint64_t call_tag(const collectives::Shape& shape, uint64_t number) {
  uint64_t tag = number & ((uint64_t{1} << kCallBits) - 1);
  tag = tag << 3 | static_cast<uint64_t>(shape.op);
  tag = tag << 4 | static_cast<uint64_t>(shape.type);
  tag = tag << 3 | reduction_code(shape);
  return tag << (kSegmentBits + collectives::kTagBits);
}
[[nodiscard]] constexpr uint64_t message_tag(uint64_t call, uint64_t segment, uint32_t step) {
  return call | segment << collectives::kTagBits | step;
}

[[nodiscard]] constexpr uint64_t transfer_tag(uint64_t number, bool note) {
  return uint64_t{1} << 63 | uint64_t{note} << 62 | (number & ((uint64_t{1} << 62) - 1));
}

}  // namespace slimccl::runtime
