// Selection is default-deny: each reason for staying exact, the override, and the cost model's two
// sides.
#include "collectives/select.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace slimccl::collectives {
namespace {

const Topology kTwoNodes = topology::parse("2x2");
const Shape kLarge{.op = Collective::kReduceScatter, .type = ncclBfloat16, .count = 1 << 22};

Policy zeropp() {
  Policy policy;
  policy.profile = "zeropp";
  return policy;
}

TEST(Select, ZeroppCompressesLargeCallsBetweenNodes) {
  const Choice choice = select(kLarge, kTwoNodes, zeropp());
  EXPECT_EQ(choice.row->name, "two_hop");
  EXPECT_EQ(choice.codecs, (Codecs{Codec::kQ4s, Codec::kTensor}));
  Shape gather = kLarge;
  gather.op = Collective::kAllGather;
  EXPECT_EQ(select(gather, kTwoNodes, zeropp()).codecs, (Codecs{Codec::kTensor, Codec::kQ8}));
}

TEST(Select, EveryReasonToStayExactIsNamed) {
  const auto reason = [](const Shape& shape, const Topology& topology, const Policy& policy) {
    const Choice choice = select(shape, topology, policy);
    EXPECT_EQ(choice.row->name, "exact");
    EXPECT_EQ(choice.codecs, Codecs{});
    return choice.reason;
  };
  EXPECT_EQ(reason(kLarge, kTwoNodes, Policy{}), "the profile is exact");
  EXPECT_EQ(reason(kLarge, topology::parse("1x4"), zeropp()), "all ranks are on one node");
  Shape integers = kLarge;
  integers.op = Collective::kAllGather;
  integers.type = ncclUint8;
  EXPECT_EQ(reason(integers, kTwoNodes, zeropp()), "uint8 is never compressed");
  Shape small = kLarge;
  small.count = 65535;
  EXPECT_EQ(reason(small, kTwoNodes, zeropp()),
            "65535 elements per rank are under the floor of 65536");
}

// The last of all reasons: what would not be compressed anyway is not counted as paused.
TEST(Select, PausedCallsAreExact) {
  const Choice paused = select(kLarge, kTwoNodes, zeropp(), true);
  EXPECT_FALSE(paused.row->lossy);
  EXPECT_EQ(paused.codecs, Codecs{});
  EXPECT_EQ(paused.kind, "paused");
  EXPECT_EQ(paused.reason, "slimcclPause holds compression back");
  EXPECT_EQ(select(kLarge, kTwoNodes, Policy{}, true).kind, "profile exact");
  Policy forced = zeropp();
  forced.overrides = "all_reduce=two_hop";
  EXPECT_FALSE(select(kLarge, kTwoNodes, forced, true).row->lossy);
}

// By name only, though its estimate is lower: no GPU has measured it.
TEST(Select, TheNodeRowIsTakenOnRequestOnly) {
  const Topology topology = topology::parse("2x8");
  Shape gather = kLarge;
  gather.op = Collective::kAllGather;
  const Codecs codecs = codecs_of_profile(gather.op);
  const auto seconds = [&](std::string_view row) {
    return estimated_seconds(find_row(gather.op, row), gather, topology, codecs, 1.25e9);
  };
  ASSERT_LT(seconds("node"), seconds("two_hop"));
  EXPECT_EQ(select(gather, topology, zeropp()).row->name, "two_hop");
  Policy asks = zeropp();
  asks.overrides = "all_gather=node";
  EXPECT_EQ(select(gather, topology, asks).row->name, "node");
  EXPECT_EQ(select(gather, topology::parse("3+1"), asks).row->name, "two_hop");
}

TEST(Select, StaysExactWhereTheNetworkIsFasterThanTheCodec) {
  Policy fast = zeropp();
  fast.net_bytes_per_s = 1e12;
  const Choice choice = select(kLarge, kTwoNodes, fast);
  EXPECT_FALSE(choice.row->lossy);
  EXPECT_EQ(choice.kind, "exact is faster");
}

// Large exact calls send the fewest bytes between nodes that any row sends, small ones take the
// fewest steps.
TEST(Select, ExactCallsTakeTheRowThatSuitsTheirSize) {
  for (const char* text : {"2x2", "3+1", "2+2+1", "0,1,0,1", "4x2", "8x1", "2x8"}) {
    const Topology topology = topology::parse(text);
    for (const Collective op : kAllCollectives) {
      Shape large{.op = op, .type = ncclFloat32, .count = uint64_t{16} << 20};
      const Row& chosen = *select(large, topology, Policy{}).row;
      const auto between = [&](const Row& row) {
        return row.wire_bytes(cut_by(row, large), topology, {}).between_nodes;
      };
      for (const Row& row : catalog()) {
        if (row.op != op || row.lossy || !row.fits(large, topology)) continue;
        // An acknowledgement is no byte of the tensor.
        EXPECT_LE(between(chosen), between(row) + 1024)
            << name(op) << " on " << text << ": " << chosen.name << " against " << row.name;
      }
    }
    const Shape tiny{.op = Collective::kAllReduce, .type = ncclFloat32, .count = 1};
    EXPECT_EQ(select(tiny, topology, Policy{}).row->name, "direct") << text;
  }
}

// One rank a node and many nodes: two neighbours are better than everybody at once.
TEST(Select, TheRingCarriesLargeCallsAmongNodesOfOneRank) {
  const Shape large{.op = Collective::kAllReduce, .type = ncclFloat32, .count = 16 << 20};
  EXPECT_EQ(select(large, topology::parse("6x1"), Policy{}).row->name, "ring");
  EXPECT_NE(select(large, topology::parse("2x1"), Policy{}).row->name, "ring");
  EXPECT_EQ(select(large, topology::parse("3x2"), Policy{}).row->name, "exact")
      << "where nodes have several ranks the ring sends more";
  Shape halves = large;
  halves.type = ncclBfloat16;
  EXPECT_EQ(select(halves, topology::parse("6x1"), Policy{}).row->name, "exact")
      << "the ring would round every partial sum";
}

TEST(Select, TheOverridePicksAmongWhatThePolicyAllows) {
  Policy policy = zeropp();
  policy.overrides = "all_gather=two_hop,reduce_scatter=exact";
  EXPECT_EQ(select(kLarge, kTwoNodes, policy).row->name, "exact");
  policy.profile = "exact";
  policy.overrides = "reduce_scatter=two_hop";
  EXPECT_EQ(select(kLarge, kTwoNodes, policy).row->name, "exact")
      << "an override must not widen the profile";
}

TEST(Select, OverridesThatNameNothingAreRefused) {
  EXPECT_NO_THROW(check_overrides(""));
  EXPECT_NO_THROW(check_overrides("all_gather=two_hop"));
  EXPECT_THROW(check_overrides("all_gather"), Error);
  EXPECT_NO_THROW(check_overrides("all_gather=ring"));
  EXPECT_THROW(check_overrides("all_gather=tree"), Error);
  EXPECT_THROW(check_overrides("gather_all=exact"), Error);
}

}  // namespace
}  // namespace slimccl::collectives
