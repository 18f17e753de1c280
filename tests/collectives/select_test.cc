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

TEST(Select, StaysExactWhereTheNetworkIsFasterThanTheCodec) {
  Policy fast = zeropp();
  fast.net_bytes_per_s = 1e12;
  const Choice choice = select(kLarge, kTwoNodes, fast);
  EXPECT_EQ(choice.row->name, "exact");
  EXPECT_EQ(choice.kind, "exact is faster");
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
  EXPECT_THROW(check_overrides("all_gather=ring"), Error);
  EXPECT_THROW(check_overrides("gather_all=exact"), Error);
}

}  // namespace
}  // namespace slimccl::collectives
