// The checkers themselves: a broken set of plans must be called broken. A law that cannot fail
// proves nothing.
#include "collectives/verify.h"

#include <gtest/gtest.h>

namespace slimccl::collectives {
namespace {

const Shape kShape{.op = Collective::kReduceScatter,
                   .type = ncclFloat32,
                   .count = 16,
                   .scaling = Scaling::kUniform};

struct Plans {
  std::vector<Plan> plans;
  std::vector<Links> links;
};

Plans good() {
  const Topology topology = topology::parse("2x2");
  Plans all;
  for (int rank = 0; rank < 4; ++rank) {
    all.plans.push_back(find_row(kShape.op, "two_hop")
                            .plan(kShape, topology, {Codec::kQ4s, Codec::kTensor}, rank, false));
    all.links.push_back(link(all.plans.back(), Alias::none()));
  }
  return all;
}

Step& first(Plan& plan, Kind kind) {
  for (Step& step : plan.steps) {
    if (step.kind == kind) return step;
  }
  throw std::logic_error("no such step");
}

TEST(Verify, ASoundSetOfPlansPasses) {
  const Plans all = good();
  EXPECT_EQ(check_messages(all.plans), "");
  EXPECT_EQ(check_acyclic(all.plans, all.links), "");
  EXPECT_EQ(check_slices(all.plans[0], kShape, 4), "");
  EXPECT_EQ(check_levels(all.plans[0], all.links[0]), "");
}

TEST(Verify, FindsAMessageWithoutAReceive) {
  Plans all = good();
  first(all.plans[0], Kind::kSend).tag += 1;
  EXPECT_NE(check_messages(all.plans), "");
}

TEST(Verify, FindsAReceiveWithoutAMessage) {
  Plans all = good();
  all.plans[0].steps.push_back(first(all.plans[0], Kind::kRecv));
  all.plans[0].steps.back().tag += 5;
  EXPECT_EQ(check_messages(all.plans), "a receive has no send");
}

TEST(Verify, FindsDifferentSizesAndLevels) {
  Plans all = good();
  first(all.plans[0], Kind::kSend).from.front().slice.bytes += 4;
  EXPECT_NE(check_messages(all.plans).find("different sizes"), std::string::npos);
  all = good();
  first(all.plans[0], Kind::kSend).level += 1;
  EXPECT_NE(check_messages(all.plans).find("different levels"), std::string::npos);
}

TEST(Verify, FindsATagUsedTwice) {
  Plans all = good();
  all.plans[1].steps.push_back(first(all.plans[1], Kind::kSend));
  EXPECT_NE(check_messages(all.plans).find("twice"), std::string::npos);
}

TEST(Verify, FindsSlicesOutOfBoundsMisalignedOrMisSized) {
  Plans all = good();
  Plan plan = all.plans[0];
  first(plan, Kind::kFold).to.slice.offset += plan.scratch_bytes;
  EXPECT_NE(check_slices(plan, kShape, 4).find("out of bounds"), std::string::npos);
  plan = all.plans[0];
  first(plan, Kind::kRecv).to.slice.offset += 4;
  plan.scratch_bytes += 64;
  EXPECT_NE(check_slices(plan, kShape, 4).find("misaligned"), std::string::npos);
  plan = all.plans[0];
  first(plan, Kind::kFold).from.front().slice.bytes -= 4;
  EXPECT_NE(check_slices(plan, kShape, 4).find("wrong size"), std::string::npos);
}

TEST(Verify, FindsACircleAcrossRanks) {
  Plans all = good();
  // Ranks 0 and 1 both insist on sending before they receive: each send's partner waits for the
  // other.
  for (const size_t rank : {size_t{0}, size_t{1}}) {
    auto& steps = all.plans[rank].steps;
    uint32_t send = 0, recv = 0;
    for (uint32_t i = 0; i < steps.size(); ++i) {
      if (steps[i].peer != static_cast<int>(1 - rank)) continue;
      (steps[i].kind == Kind::kSend ? send : recv) = i;
    }
    all.links[rank].after[recv].push_back(send);
  }
  EXPECT_NE(check_acyclic(all.plans, all.links), "");
}

// Of an all-gather that gathers in the node.
std::vector<Plan> gathering(const Topology& topology) {
  const Shape shape{.op = Collective::kAllGather, .type = ncclFloat32, .count = 100};
  std::vector<Plan> plans;
  for (int rank = 0; rank < topology.ranks(); ++rank) {
    plans.push_back(find_row(shape.op, "node")
                        .plan(shape, topology, {Codec::kTensor, Codec::kQ8}, rank, false));
  }
  return plans;
}

TEST(Verify, FindsAGatherThatIsNotWhatTheMessagesAre) {
  const Topology topology = topology::parse("2x3");
  const auto wrong = [&](auto&& change) {
    std::vector<Plan> plans = gathering(topology);
    change(plans[1], *plans[1].gather);
    return check_gathers(plans, topology);
  };
  const auto message = [](Plan& plan, Kind kind) -> Step& {
    for (Step& step : plan.steps) {
      if (step.kind == kind && step.level == plan.gather->level) return step;
    }
    throw std::logic_error("no such step");
  };
  EXPECT_EQ(wrong([](Plan&, NodeGather&) {}), "");
  EXPECT_NE(wrong([](Plan&, NodeGather& gather) { gather.to.bytes += 64; }), "");
  EXPECT_NE(wrong([](Plan&, NodeGather& gather) { gather.from.offset += 64; }), "");
  EXPECT_NE(wrong([](Plan&, NodeGather& gather) { gather.level -= 1; }), "");
  EXPECT_NE(wrong([](Plan& plan, NodeGather&) { plan.gather.reset(); }), "");
  EXPECT_NE(
      wrong([&](Plan& plan, NodeGather&) { plan.steps.push_back(message(plan, Kind::kSend)); }),
      "");
  EXPECT_NE(wrong([&](Plan& plan, NodeGather&) { message(plan, Kind::kSend).peer = 4; }), "");
  EXPECT_NE(wrong([&](Plan& plan, NodeGather&) {
              message(plan, Kind::kSend).from.front().slice.offset += 64;
            }),
            "");
  EXPECT_NE(
      wrong([&](Plan& plan, NodeGather&) { message(plan, Kind::kRecv).to.slice.offset += 64; }),
      "");
}

TEST(Verify, FindsALevelThatDependsOnItself) {
  Plans all = good();
  for (Step& step : all.plans[0].steps) step.level = 0;
  EXPECT_NE(check_levels(all.plans[0], all.links[0]), "");
}

}  // namespace
}  // namespace slimccl::collectives
