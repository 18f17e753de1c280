// How calls on a stream are cut so that their scratch fits into a slot of the arena, and their
// plans in the order in which a stream runs them. Pure: no CUDA here, and all ranks cut alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "collectives/select.h"

namespace slimccl::runtime {

// Beside its plan's scratch, a call has room to move so many messages' elements to where kernels
// can reach them: a fold's source and its sink, if the caller's buffers are not element-aligned.
// All ranks keep it, for they must not cut differently.
inline constexpr uint64_t kBounces = 2;

// A shape as the row cuts it, for one of the calls that are coalesced.
struct RowShape {
  const collectives::Row* row;
  collectives::Shape shape;
};

// Bytes that a call takes while it runs a segment of one superblock of every slice.
[[nodiscard]] uint64_t least_bytes(const RowShape& call, const topology::Topology& topology);
// The most that any row takes for fp32 on this topology.
[[nodiscard]] uint64_t least_slot_bytes(const topology::Topology& topology);

// How many of these calls run side by side in a slot; the others after them. Throws Error if not
// one fits.
[[nodiscard]] size_t calls_at_once(std::span<const RowShape> calls,
                                   const topology::Topology& topology, uint64_t slot_bytes);

// How one of the calls that run side by side is cut, and its part of the slot.
struct Cut {
  uint64_t elems;         // of a segment, a multiple of the superblock
  uint64_t segments;      // 0: the call has no elements
  uint64_t offset;        // of its part, in bytes
  uint64_t bytes;         // the bounces and the scratch
  uint64_t bounce_bytes;  // of each bounce: a segment's unrounded elements
};
// As few segments as fit, so a long call has more of the slot than a short one.
[[nodiscard]] std::vector<Cut> cut(std::span<const RowShape> calls,
                                   const topology::Topology& topology, uint64_t slot_bytes);

// The steps of one level. Plans from the cache have each level's messages in the order of their
// tags, so that both ends of a pair name them in the same order.
[[nodiscard]] std::span<const collectives::Step> steps_of(const collectives::Plan& plan, int level);

// The plans of one rank's last calls.
class PlanCache {
 public:
  [[nodiscard]] std::shared_ptr<const collectives::Plan> plan(const RowShape& segment,
                                                              const topology::Topology& topology,
                                                              const collectives::Codecs& codecs,
                                                              int rank, bool in_place);

 private:
  struct Cached {
    const collectives::Row* row;
    collectives::Shape shape;
    collectives::Codecs codecs;
    bool in_place;
    std::shared_ptr<const collectives::Plan> plan;
  };
  std::vector<Cached> cached_;  // most recently used last
};

}  // namespace slimccl::runtime
