// How calls on streams are cut: whatever the row, the topology and the arena, every segment of
// every rank's plan fits into what its call has, and no element is left out.
#include "runtime/stream/stream_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "base/bytes.h"
#include "base/error.h"

namespace slimccl::runtime {
namespace {

using collectives::Codec;
using collectives::Codecs;
using collectives::Collective;
using collectives::Kind;
using collectives::Plan;
using collectives::Row;
using collectives::Scaling;
using collectives::Shape;
using collectives::Step;
using topology::Topology;

constexpr uint64_t kSlots[] = {1, 2, 7};  // in least_bytes() of the call

RowShape call_of(const Row& row, uint64_t count, ncclDataType_t type = ncclFloat32) {
  Shape shape{.op = row.op, .type = type, .count = count};
  if (is_reduction(row.op)) shape.scaling = Scaling::kPerRank;  // has the most messages
  return {&row, cut_by(row, shape)};
}

std::string describe(const RowShape& call, const Topology& topology) {
  return concat(name(call.shape.op), " by ", call.row->name, " of ", call.shape.count, " on ",
                to_text(topology));
}

void expect_segments_fit(const RowShape& call, const Cut& pieces, const Topology& topology) {
  EXPECT_EQ(pieces.elems % quant::kSuperblock, 0u);
  EXPECT_EQ(pieces.offset % quant::kMessageAlign, 0u);
  EXPECT_EQ(pieces.bounce_bytes % quant::kMessageAlign, 0u);
  const uint64_t longest = slice_stride(call.shape, topology.ranks());
  EXPECT_EQ(pieces.segments, ceil_div(longest, pieces.elems)) << describe(call, topology);
  for (uint64_t segment = 0; segment < pieces.segments; ++segment) {
    RowShape part = call;
    part.shape.begin = segment * pieces.elems;
    part.shape.elems = pieces.elems;
    for (int rank = 0; rank < topology.ranks(); ++rank) {
      const Plan plan = part.row->plan(part.shape, topology, Codecs{}, rank, false);
      ASSERT_LE(plan.scratch_bytes + kBounces * pieces.bounce_bytes, pieces.bytes)
          << describe(call, topology) << ", rank " << rank << ", segment " << segment;
    }
  }
}

TEST(StreamSchedule, EverySegmentOfEveryRankFits) {
  for (const char* text : {"1x3", "2x2", "3+1", "1+3", "0,1,0,1", "4x2", "2+2+1", "7+9"}) {
    const Topology topology = topology::parse(text);
    for (const Row& row : collectives::catalog()) {
      for (const uint64_t count : {1, 2049, 20001}) {
        for (const ncclDataType_t type : {ncclFloat32, ncclBfloat16}) {
          const RowShape call = call_of(row, count, type);
          if (!row.fits(call.shape, topology)) continue;
          const uint64_t least = least_bytes(call, topology);
          EXPECT_LE(least, least_slot_bytes(topology)) << describe(call, topology);
          for (const uint64_t times : kSlots) {
            const auto cuts = cut({&call, 1}, topology, times * least + 64);
            ASSERT_LE(cuts.front().bytes, times * least);
            expect_segments_fit(call, cuts.front(), topology);
          }
        }
      }
    }
  }
}

// The parts of calls that run side by side do not overlap, and a long call has the larger part.
TEST(StreamSchedule, CallsShareTheSlotByTheirLengths) {
  const Topology topology = topology::parse("2x2");
  const Row& row = find_row(Collective::kAllGather, "two_hop");
  const std::vector<RowShape> calls = {call_of(row, 1), call_of(row, 100 * quant::kSuperblock),
                                       call_of(row, 0), call_of(row, 50 * quant::kSuperblock)};
  const uint64_t least = least_bytes(calls.front(), topology);
  for (const uint64_t times : {4, 17, 32, 152, 1000}) {
    const std::vector<Cut> cuts = cut(calls, topology, times * least);
    uint64_t end = 0;
    for (size_t i = 0; i < calls.size(); ++i) {
      EXPECT_EQ(cuts[i].offset, end);
      end = cuts[i].offset + cuts[i].bytes;
      expect_segments_fit(calls[i], cuts[i], topology);
    }
    EXPECT_LE(end, times * least);
  }
  EXPECT_EQ(cut(calls, topology, 17 * least)[1].segments, 10u);
  EXPECT_EQ(cut(calls, topology, 17 * least)[3].segments, 10u);
  EXPECT_EQ(cut(calls, topology, 152 * least)[1].segments, 1u);
  EXPECT_EQ(cut(calls, topology, 151 * least)[1].segments, 2u);
}

TEST(StreamSchedule, ACallOfNothingHasNoSegments) {
  const Topology topology = topology::parse("2x2");
  const RowShape call = call_of(find_row(Collective::kAllReduce, "two_hop"), 0);
  EXPECT_EQ(cut({&call, 1}, topology, least_bytes(call, topology)).front().segments, 0u);
}

TEST(StreamSchedule, AsManyCallsGoTogetherAsTheSlotHasRoomFor) {
  const Topology topology = topology::parse("2x2");
  const RowShape large = call_of(find_row(Collective::kAllReduce, "two_hop"), 100000);
  const RowShape small = call_of(find_row(Collective::kAllGather, "two_hop"), 1);
  const uint64_t least = least_bytes(large, topology);
  ASSERT_LT(least_bytes(small, topology), least);
  const std::vector<RowShape> calls = {small, large, small, small};
  EXPECT_EQ(calls_at_once(calls, topology, least), 1u);
  EXPECT_EQ(calls_at_once(calls, topology, 3 * least - 1), 2u);
  EXPECT_EQ(calls_at_once(calls, topology, 100 * least), 4u);
  try {
    (void)calls_at_once(calls, topology, least - 1);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr(concat(least, " bytes of scratch")));
  }
}

// What rank `from` sends to rank `to` on a level, or what that receives of it: the tags in order.
std::vector<uint32_t> tags(const Plan& plan, int level, Kind kind, int peer) {
  std::vector<uint32_t> found;
  for (const Step& step : steps_of(plan, level)) {
    EXPECT_EQ(step.level, level);
    if (step.kind == kind && step.peer == peer) found.push_back(step.tag);
  }
  return found;
}

// Returns how many pairs have several messages of one level.
int expect_one_order(const RowShape& call, const Topology& topology) {
  std::vector<std::shared_ptr<const Plan>> plans;
  plans.reserve(static_cast<size_t>(topology.ranks()));
  for (int rank = 0; rank < topology.ranks(); ++rank) {
    plans.push_back(PlanCache().plan(call, topology, Codecs{}, rank, false));
  }
  int several = 0;
  for (int level = 0; level < 2 * topology.ranks() + 10; ++level) {
    for (int from = 0; from < topology.ranks(); ++from) {
      for (int to = 0; to < topology.ranks(); ++to) {
        const auto sent = tags(*plans[static_cast<size_t>(from)], level, Kind::kSend, to);
        EXPECT_EQ(sent, tags(*plans[static_cast<size_t>(to)], level, Kind::kRecv, from))
            << describe(call, topology) << ", level " << level << ", " << from << " to " << to;
        several += sent.size() > 1 ? 1 : 0;
      }
    }
  }
  return several;
}

TEST(StreamSchedule, BothEndsNameAPairsMessagesInOneOrder) {
  int several = 0;
  for (const char* text : {"2x2", "3+1", "0,1,1,0", "4x2", "7+9"}) {
    const Topology topology = topology::parse(text);
    for (const Row& row : collectives::catalog()) {
      const RowShape call = call_of(row, 5000);
      if (row.fits(call.shape, topology)) several += expect_one_order(call, topology);
    }
  }
  EXPECT_GT(several, 0) << "no pair has two messages of a level: this test shows nothing";
}

TEST(StreamSchedule, FullSegmentsShareAPlanAndTheCacheForgets) {
  const Topology topology = topology::parse("2x2");
  PlanCache cache;
  RowShape segment = call_of(find_row(Collective::kAllReduce, "two_hop"), 100000);
  segment.shape.elems = 2048;
  const auto plan = [&](uint64_t begin, const Codecs& codecs, bool in_place) {
    segment.shape.begin = begin;
    return cache.plan(segment, topology, codecs, 0, in_place);
  };
  const auto first = plan(0, {}, false);
  EXPECT_EQ(plan(2048, {}, false), first);
  EXPECT_NE(plan(24576, {}, false), first) << "the last one is short";
  EXPECT_NE(plan(0, {Codec::kQ8, Codec::kQ8}, false), first);
  EXPECT_NE(plan(0, {}, true), first);
  EXPECT_EQ(plan(0, {}, false), first);
  for (uint64_t count = 1; count <= 200; ++count) {
    (void)cache.plan(call_of(find_row(Collective::kAllReduce, "two_hop"), count), topology, {}, 0,
                     false);
  }
  EXPECT_EQ(first.use_count(), 1) << "the cache still has it";
}

}  // namespace
}  // namespace slimccl::runtime
