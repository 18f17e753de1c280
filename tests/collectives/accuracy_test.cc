// How well a two-hop reduction carries real gradients: one tensor of eight ranks' last training
// step, in which tails are the heaviest, beside what DeepSpeed's INT4 does at the same two hops.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "collectives/catalog.h"
#include "quant/deepspeed.h"
#include "quant/samples.h"
#include "support/accuracy.h"
#include "support/npy.h"
#include "support/simulate.h"

namespace slimccl::collectives {
namespace {

using Values = std::vector<float>;

constexpr int kRanks = 8;

std::vector<Values> gradients() {
  std::vector<Values> all;
  for (int rank = 0; rank < kRanks; ++rank) {
    const std::string name = "tensors/gradients.rank" + std::to_string(rank) + ".npy";
    all.push_back(testing::read_npy(testing::data_path(name)));
  }
  return all;
}

template <class Sum>
std::vector<Sum> sum_of(const std::vector<Values>& all) {
  std::vector<Sum> sum(all[0].size());
  for (const Values& values : all) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
  }
  return sum;
}

// The planner's reduce-scatter with q4s between nodes, run by the simulator with the project's own
// kernels; the slices of all ranks, put together again.
Values reduced_by_plan(const std::vector<Values>& inputs, const Topology& topology) {
  const Row& row = find_row(Collective::kReduceScatter, "two_hop");
  const Shape shape{
      .op = Collective::kReduceScatter, .type = ncclFloat32, .count = inputs[0].size() / kRanks};
  const Codecs codecs{.reduce = Codec::kQ4s};
  std::vector<Plan> plans;
  std::vector<Links> links;
  std::vector<testing::RankMemory> memory;
  for (int rank = 0; rank < kRanks; ++rank) {
    const Values& input = inputs[static_cast<size_t>(rank)];
    plans.push_back(row.plan(shape, topology, codecs, rank, false));
    links.push_back(link(plans.back(), testing::alias_of(shape, rank, false)));
    memory.push_back(testing::place(shape, kRanks, rank, false));
    std::memcpy(memory.back().memory.data(), input.data(), input.size() * sizeof(float));
  }
  std::mt19937 random(1);
  EXPECT_TRUE(simulate(shape, plans, links, memory, testing::Delivery::kEager, random));
  Values result;
  for (const testing::RankMemory& rank : memory) {
    const auto* slice = reinterpret_cast<const float*>(rank.memory.data() + rank.output_at);
    result.insert(result.end(), slice, slice + shape.count);
  }
  return result;
}

// DeepSpeed quantizes every rank's values before the sum in the node, and every node's before the
// sum of nodes, its own included.
Values reduced_by_deepspeed(const std::vector<Values>& inputs, const Topology& topology) {
  std::vector<Values> partials;
  for (int node = 0; node < topology.nodes(); ++node) {
    std::vector<Values> received;
    for (const int rank : topology.members(node)) {
      received.push_back(quant::testing::through_ds4(inputs[static_cast<size_t>(rank)]));
    }
    partials.push_back(quant::testing::through_ds4(sum_of<float>(received)));
  }
  return sum_of<float>(partials);
}

struct Found {
  double exact_in_node_db, q8_in_node_db, ds4_db;
};

Found measure(const char* nodes) {
  const Topology topology = topology::parse(nodes);
  const std::vector<Values> inputs = gradients();
  // The planner has no codec inside nodes: inputs that went through q8 stand for it. Here a rank's
  // own values go through it too, which is the worst case.
  std::vector<Values> through_q8;
  through_q8.reserve(inputs.size());
  for (const Values& values : inputs) {
    through_q8.push_back(quant::testing::through(Codec::kQ8, values));
  }
  const std::vector<double> exact = sum_of<double>(inputs);
  const Found found{testing::sqnr_db(exact, reduced_by_plan(inputs, topology)),
                    testing::sqnr_db(exact, reduced_by_plan(through_q8, topology)),
                    testing::sqnr_db(exact, reduced_by_deepspeed(inputs, topology))};
  std::printf(
      "%s: q4s across nodes %.2f dB, with q8 inside them %.2f dB; ds4 at both hops %.2f dB\n",
      nodes, found.exact_in_node_db, found.q8_in_node_db, found.ds4_db);
  return found;
}

TEST(Accuracy, TwoNodesOfFour) {
  const Found found = measure("2x4");
  EXPECT_GE(found.exact_in_node_db, 23);
  EXPECT_GE(found.q8_in_node_db, 23);
  EXPECT_NEAR(found.ds4_db, 10, 0.6);
}

TEST(Accuracy, FourNodesOfTwo) {
  const Found found = measure("4x2");
  EXPECT_GE(found.exact_in_node_db, 21.5);
  EXPECT_GE(found.q8_in_node_db, 21.5);
  EXPECT_NEAR(found.ds4_db, 10, 0.6);
}

}  // namespace
}  // namespace slimccl::collectives
