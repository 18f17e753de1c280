#include "runtime/stream/stream_schedule.h"

#include <algorithm>
#include <tuple>

#include "base/bytes.h"
#include "base/error.h"

namespace slimccl::runtime {
namespace {

using collectives::Plan;
using collectives::Shape;
using collectives::Step;
using topology::Topology;

constexpr size_t kCachedPlans = 64;

uint64_t unrounded_bytes(const Shape& shape, uint64_t elems) {
  return elems * std::max<uint64_t>(sizeof(float), quant::type_bytes(shape.type));
}

// What a call takes by superblocks of its longest slice.
struct Need {
  uint64_t superblocks, bytes_each;

  [[nodiscard]] uint64_t in_one_of(uint64_t segments) const {
    return ceil_div(superblocks, segments);
  }
};

uint64_t bytes_in(uint64_t segments, std::span<const Need> needs) {
  uint64_t bytes = 0;
  for (const Need& need : needs) bytes += need.in_one_of(segments) * need.bytes_each;
  return bytes;
}

uint64_t fewest_segments(std::span<const Need> needs, uint64_t slot_bytes) {
  uint64_t few = 1, enough = 1;  // enough: a superblock each
  for (const Need& need : needs) enough = std::max(enough, need.superblocks);
  ensure(bytes_in(enough, needs) <= slot_bytes, "calls that do not fit into a slot of ", slot_bytes,
         " bytes");
  while (few < enough) {
    const uint64_t middle = (few + enough) / 2;
    if (bytes_in(middle, needs) <= slot_bytes) {
      enough = middle;
    } else {
      few = middle + 1;
    }
  }
  return enough;
}

}  // namespace

uint64_t least_bytes(const RowShape& call, const Topology& topology) {
  const uint64_t messages = call.row->scratch_messages(call.shape, topology) + kBounces;
  return messages * unrounded_bytes(call.shape, quant::kSuperblock);
}

uint64_t least_slot_bytes(const Topology& topology) {
  uint64_t most = 0;
  for (const collectives::Row& row : collectives::catalog()) {
    const Shape shape = cut_by(row, {.op = row.op, .type = ncclFloat32, .count = 1});
    if (row.fits(shape, topology)) most = std::max(most, least_bytes({&row, shape}, topology));
  }
  return most;
}

size_t calls_at_once(std::span<const RowShape> calls, const Topology& topology,
                     uint64_t slot_bytes) {
  uint64_t largest = 1;
  for (const RowShape& call : calls) largest = std::max(largest, least_bytes(call, topology));
  check(largest <= slot_bytes, ncclInternalError, "a superblock's segment takes ", largest,
        " bytes of scratch; a slot of the arena has ", slot_bytes, ": make the arena larger");
  return std::min<uint64_t>(calls.size(), slot_bytes / largest);
}

std::vector<Cut> cut(std::span<const RowShape> calls, const Topology& topology,
                     uint64_t slot_bytes) {
  std::vector<Need> needs;
  for (const RowShape& call : calls) {
    const uint64_t longest = collectives::slice_stride(call.shape, topology.ranks());
    needs.push_back(
        {std::max<uint64_t>(1, quant::superblocks(longest)), least_bytes(call, topology)});
  }
  const uint64_t segments = fewest_segments(needs, slot_bytes);
  std::vector<Cut> cuts;
  uint64_t offset = 0;
  for (size_t i = 0; i < calls.size(); ++i) {
    const Shape& shape = calls[i].shape;
    const uint64_t superblocks = needs[i].in_one_of(segments);
    const uint64_t elems = superblocks * quant::kSuperblock;
    cuts.push_back({.elems = elems,
                    .segments = ceil_div(slice_stride(shape, topology.ranks()), elems),
                    .offset = offset,
                    .bytes = superblocks * needs[i].bytes_each,
                    .bounce_bytes = unrounded_bytes(shape, elems)});
    offset += cuts.back().bytes;
  }
  return cuts;
}

std::span<const Step> steps_of(const Plan& plan, int level) {
  const auto [first, last] = std::ranges::equal_range(plan.steps, level, {}, &Step::level);
  return {first, last};
}

std::shared_ptr<const Plan> PlanCache::plan(const RowShape& segment, const Topology& topology,
                                            const collectives::Codecs& codecs, int rank,
                                            bool in_place) {
  const Shape shape = collectives::normalized(segment.shape, topology.ranks());
  const auto same = [&](const Cached& cached) {
    return cached.row == segment.row && cached.shape == shape && cached.codecs == codecs &&
           cached.in_place == in_place;
  };
  const auto found = std::ranges::find_if(cached_, same);
  if (found != cached_.end()) {
    std::rotate(found, found + 1, cached_.end());
    return cached_.back().plan;
  }
  Plan plan = segment.row->plan(shape, topology, codecs, rank, in_place);
  std::ranges::stable_sort(plan.steps, {},
                           [](const Step& step) { return std::tuple(step.level, step.tag); });
  if (cached_.size() == kCachedPlans) cached_.erase(cached_.begin());
  cached_.push_back(
      {segment.row, shape, codecs, in_place, std::make_shared<const Plan>(std::move(plan))});
  return cached_.back().plan;
}

}  // namespace slimccl::runtime
