// Which calls would be compressed, and what that saves: a table of cases.
#include "core/policy.h"

#include <gtest/gtest.h>

#include "collectives/catalog.h"
#include "collectives/select.h"

namespace slimccl::overlay {
namespace {

constexpr Policy kAudit{Profile::kAudit, 1000};
constexpr int kRanks = 4;

struct Case {
  const char* what;
  Call call;
  Reason expected;
  Reason standing = Reason::kCompressible;
  bool windowed = false;
};

TEST(OverlayPolicy, SaysWhyACallIsExact) {
  using enum Operation;
  const Case cases[] = {
      {"weights", {kAllGather, 1000, ncclBfloat16}, Reason::kCompressible},
      {"gradients", {kReduceScatter, 1000, ncclFloat, ncclAvg}, Reason::kCompressible},
      {"all-reduce", {kAllReduce, 3997, ncclFloat16, ncclSum}, Reason::kCompressible},
      {"a sum of one's own", {kAllReduce, 4000, ncclFloat, ncclRedOp_t(7)}, Reason::kCompressible},
      {"all-reduce's floor is per rank", {kAllReduce, 3996, ncclFloat}, Reason::kFloor},
      {"small", {kAllGather, 999, ncclFloat}, Reason::kFloor},
      {"empty", {kAllGather, 0, ncclFloat}, Reason::kEmpty},
      {"product", {kAllReduce, 4000, ncclFloat, ncclProd}, Reason::kReduction},
      {"minimum", {kReduceScatter, 4000, ncclFloat, ncclMin}, Reason::kReduction},
      {"maximum", {kAllReduce, 4000, ncclFloat, ncclMax}, Reason::kReduction},
      {"bytes", {kAllGather, 4000, ncclUint8}, Reason::kType},
      {"double", {kAllGather, 4000, ncclDouble}, Reason::kType},
      {"fp8", {kAllGather, 4000, ncclFloat8e4m3}, Reason::kType},
      {"unknown type", {kAllGather, 4000, ncclNumTypes}, Reason::kType},
      {"broadcast", {kBroadcast, 4000, ncclFloat}, Reason::kOperation},
      {"reduce", {kReduce, 4000, ncclFloat}, Reason::kOperation},
      {"all-to-all", {kAlltoAll, 4000, ncclFloat}, Reason::kOperation},
      {"send", {kSend, 4000, ncclFloat}, Reason::kPointToPoint},
      {"receive", {kRecv, 4000, ncclFloat}, Reason::kPointToPoint},
      {"window", {kAllGather, 4000, ncclFloat}, Reason::kWindow, Reason::kCompressible, true},
      {"one node", {kAllGather, 4000, ncclFloat}, Reason::kOneNode, Reason::kOneNode},
      {"unseen", {kSend, 1, ncclFloat}, Reason::kUnseen, Reason::kUnseen},
      {"settings", {kAllGather, 4000, ncclFloat}, Reason::kSettings, Reason::kSettings},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(text(classify(one.call, kAudit, {one.standing, kRanks, one.windowed})),
              text(one.expected))
        << one.what;
  }
}

TEST(OverlayPolicy, TheExactProfileNeedsNoOtherReason) {
  const Call call{Operation::kAllGather, 1 << 20, ncclFloat};
  EXPECT_EQ(classify(call, {Profile::kExact, 0}, {Reason::kOneNode, 4}), Reason::kProfile);
}

TEST(OverlayPolicy, SavingsAreTheCataloguesBytes) {
  const auto topology = topology::parse("3+1");
  for (const Operation op :
       {Operation::kAllGather, Operation::kReduceScatter, Operation::kAllReduce}) {
    const Call call{op, 10007, ncclBfloat16};
    const auto collective = collectives::collective_from_name(name(op));
    const collectives::Shape shape{.op = collective, .type = call.type, .count = call.count};
    const auto& exact = collectives::find_row(collective, "exact");
    const auto& two_hop = collectives::find_row(collective, "two_hop");
    Savings sum{0, 0};
    for (int rank = 0; rank < topology.ranks(); ++rank) {
      const Savings one = savings(call, kAudit, topology, rank);
      sum.exact_bytes += one.exact_bytes;
      sum.compressed_bytes += one.compressed_bytes;
    }
    EXPECT_EQ(sum.exact_bytes, exact.wire_bytes(shape, topology, {}).between_nodes) << name(op);
    EXPECT_EQ(sum.compressed_bytes,
              two_hop.wire_bytes(shape, topology, collectives::codecs_of_profile(collective))
                  .between_nodes)
        << name(op);
    EXPECT_LT(sum.compressed_bytes, sum.exact_bytes) << name(op);
  }
}

}  // namespace
}  // namespace slimccl::overlay
