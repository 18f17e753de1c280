// Plans as text, for a few shapes, against files a person has read. SLIMCCL_TEST_WRITE_GOLDEN=1
// writes them anew.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "collectives/catalog.h"

namespace slimccl::collectives {
namespace {

struct Golden {
  const char* file;
  Collective op;
  const char* row;
  const char* topology;
  Codecs codecs;
  Scaling scaling;
  bool in_place;
  int root = 0;
};

const Golden kGoldens[] = {
    {"reduce_scatter_two_hop_2x2",
     Collective::kReduceScatter,
     "two_hop",
     "2x2",
     {Codec::kQ4s, Codec::kTensor},
     Scaling::kUniform,
     false},
    {"reduce_scatter_exact_3+1",
     Collective::kReduceScatter,
     "exact",
     "3+1",
     {},
     Scaling::kPerRank,
     false},
    {"all_gather_two_hop_3+1",
     Collective::kAllGather,
     "two_hop",
     "3+1",
     {Codec::kTensor, Codec::kQ8},
     Scaling::kNone,
     true},
    {"all_gather_node_2x2",
     Collective::kAllGather,
     "node",
     "2x2",
     {Codec::kTensor, Codec::kQ8},
     Scaling::kNone,
     false},
    {"all_gather_exact_2x2", Collective::kAllGather, "exact", "2x2", {}, Scaling::kNone, false},
    {"all_reduce_two_hop_2x1",
     Collective::kAllReduce,
     "two_hop",
     "2x1",
     {Codec::kQ4s, Codec::kQ8},
     Scaling::kNone,
     true},
    {"all_reduce_direct_3", Collective::kAllReduce, "direct", "1x3", {}, Scaling::kPerRank, true},
    {"reduce_scatter_ring_2x2",
     Collective::kReduceScatter,
     "ring",
     "2x2",
     {},
     Scaling::kNone,
     false},
    {"broadcast_chain_2x2", Collective::kBroadcast, "chain", "2x2", {}, Scaling::kNone, false, 3},
    {"reduce_chain_2+1+1", Collective::kReduce, "chain", "2+1+1", {}, Scaling::kUniform, false, 1},
};

std::string text_of(const Golden& golden) {
  const Topology topology = topology::parse(golden.topology);
  const Row& row = find_row(golden.op, golden.row);
  const auto type = golden.row == std::string("ring") ? ncclFloat32 : ncclBfloat16;
  const Shape shape = cut_by(row, {.op = golden.op,
                                   .type = type,
                                   .count = 4096,
                                   .scaling = golden.scaling,
                                   .root = golden.root});
  std::string text;
  for (int rank = 0; rank < topology.ranks(); ++rank) {
    text += "rank " + std::to_string(rank) + "\n";
    text += to_text(row.plan(shape, topology, golden.codecs, rank, golden.in_place));
  }
  return text;
}

TEST(Golden, PlansReadAsTheyDid) {
  for (const Golden& golden : kGoldens) {
    const std::string path =
        std::string(std::getenv("SLIMCCL_TEST_GOLDEN")) + "/" + golden.file + ".plan";
    const std::string text = text_of(golden);
    if (std::getenv("SLIMCCL_TEST_WRITE_GOLDEN") != nullptr) std::ofstream(path) << text;
    std::ifstream file(path);
    ASSERT_TRUE(file) << path;
    std::stringstream expected;
    expected << file.rdbuf();
    EXPECT_EQ(text, expected.str()) << golden.file;
  }
}

}  // namespace
}  // namespace slimccl::collectives
