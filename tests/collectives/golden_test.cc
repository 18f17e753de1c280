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
    {"all_gather_exact_2x2", Collective::kAllGather, "exact", "2x2", {}, Scaling::kNone, false},
    {"all_reduce_two_hop_2x1",
     Collective::kAllReduce,
     "two_hop",
     "2x1",
     {Codec::kQ4s, Codec::kQ8},
     Scaling::kNone,
     true},
};

std::string text_of(const Golden& golden) {
  const Topology topology = topology::parse(golden.topology);
  const Shape shape{
      .op = golden.op, .type = ncclBfloat16, .count = 4096, .scaling = golden.scaling};
  std::string text;
  for (int rank = 0; rank < topology.ranks(); ++rank) {
    text += "rank " + std::to_string(rank) + "\n";
    text += to_text(find_row(golden.op, golden.row)
                        .plan(shape, topology, golden.codecs, rank, golden.in_place));
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
