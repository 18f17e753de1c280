// What two ranks' calls look like when they differ, and that differing calls find no message of
// each other's.
#include "runtime/signature.h"

#include <gtest/gtest.h>

#include <set>

#include "runtime/wire_tag.h"

namespace slimccl::runtime {
namespace {

using collectives::Collective;
using collectives::Reduction;
using collectives::Scaling;
using collectives::Shape;

const Shape kCall{.op = Collective::kAllReduce, .type = ncclFloat32, .count = 5};

TEST(Signature, ReadsAsTheCall) {
  EXPECT_EQ(to_text(signature_of(kCall, 12)), "call 12: all_reduce of 5 x fp32, sum");
  Shape rooted = kCall;
  rooted.op = Collective::kReduce;
  rooted.root = 3;
  rooted.reduction = Reduction::kMax;
  EXPECT_EQ(to_text(signature_of(rooted, 1)), "call 1: reduce of 5 x fp32, max, root 3");
  rooted.op = Collective::kBroadcast;
  EXPECT_EQ(to_text(signature_of(rooted, 1)), "call 1: broadcast of 5 x fp32, root 3");
}

TEST(Signature, NamesEverySideOfADisagreement) {
  Shape other = kCall;
  other.count = 6;
  const Signature mine = signature_of(kCall, 12), theirs = signature_of(other, 12);
  EXPECT_EQ(disagreement(std::vector{mine, mine}), "");
  EXPECT_EQ(disagreement(std::vector{mine, theirs, mine, mine}),
            "ranks 0, 2, 3: call 12: all_reduce of 5 x fp32, sum; rank 1: call 12: all_reduce of 6 "
            "x fp32, sum");
}

std::vector<Shape> all_kinds() {
  std::vector<Shape> kinds;
  for (const Collective op : collectives::kAllCollectives) {
    for (int type = 0; type < ncclNumTypes; ++type) {
      Shape shape{.op = op, .type = static_cast<ncclDataType_t>(type), .count = 5};
      kinds.push_back(shape);
      if (!is_reduction(op)) continue;
      for (const Scaling scaling : {Scaling::kUniform, Scaling::kPerRank}) {
        shape.scaling = scaling;
        kinds.push_back(shape);
      }
      shape.scaling = Scaling::kNone;
      shape.divides = true;
      kinds.push_back(shape);
      shape.divides = false;
      for (const auto reduction : {Reduction::kProd, Reduction::kMax, Reduction::kMin}) {
        shape.reduction = reduction;
        kinds.push_back(shape);
      }
    }
  }
  return kinds;
}

TEST(WireTag, CallsOfDifferentKindAndNumberNeverShareATag) {
  std::set<uint64_t> tags;
  size_t made = 0;
  for (const Shape& shape : all_kinds()) {
    for (const uint64_t number : {0, 1, 512, 1023}) {
      tags.insert(call_tag(shape, number));
      ++made;
    }
  }
  EXPECT_EQ(tags.size(), made);
}

TEST(WireTag, PartsDoNotRunIntoEachOther) {
  const uint32_t last_step = (uint32_t{1} << collectives::kTagBits) - 1;
  const uint64_t call = call_tag(all_kinds().back(), 1023);
  const uint64_t tag = message_tag(call, kMaxSegments - 1, last_step);
  EXPECT_EQ(tag & (message_tag(0, kMaxSegments - 1, last_step)),
            message_tag(0, kMaxSegments - 1, last_step));
  EXPECT_EQ(tag & ~message_tag(0, kMaxSegments - 1, last_step), call);
  EXPECT_EQ(tag >> 63, 0u) << "a collective's message must not look like a transfer";
  EXPECT_EQ(transfer_tag(0, false) >> 63, 1u);
  EXPECT_NE(transfer_tag(7, false), transfer_tag(7, true));
}

}  // namespace
}  // namespace slimccl::runtime
