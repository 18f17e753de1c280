// collective_perf -c 1 must see what it promises to see: its checkers get corrupted results here.
#include "checks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "elements.h"
#include "expectation.h"
#include "workload.h"

namespace slimccl::perf {
namespace {

constexpr size_t kElems = 128 * 1024;

std::vector<double> natural(int rank) {
  const Inputs inputs(Inputs::Kind::kNatural, ncclBfloat16, Reduction::kSum, 4);
  std::vector<double> values(kElems);
  inputs.scaled(rank, 0, values);
  return values;
}

class CorruptedResult : public testing::TestWithParam<const char*> {
 protected:
  CorruptedResult() : expected(natural(0)), actual(expected), bound(kElems, 0.0) {
    add_codec_bound(GetParam(), expected, bound);
    // An honest codec's error: well inside the bound, of both signs.
    for (size_t i = 0; i < kElems; ++i) actual[i] += (i % 2 == 0 ? 0.3 : -0.3) * bound[i];
  }
  std::string judged() const {
    Judge judge;
    judge.add(expected, actual, bound);
    return complaint(judge.result(), gain_tolerance(GetParam()));
  }
  std::vector<double> expected, actual, bound;
};

TEST_P(CorruptedResult, HonestOnePasses) { EXPECT_EQ(judged(), ""); }

TEST_P(CorruptedResult, ScaledByFivePercentFails) {
  for (double& value : actual) value *= 1.05;
  EXPECT_NE(judged(), "");
}

TEST_P(CorruptedResult, ZeroedBlockFails) {
  std::fill_n(actual.begin() + 4096, 64, 0.0);
  EXPECT_NE(judged(), "");
}

TEST_P(CorruptedResult, SwappedBlocksFail) {
  std::swap_ranges(actual.begin() + 2048, actual.begin() + 4096, actual.begin() + 8192);
  EXPECT_NE(judged(), "");
}

TEST_P(CorruptedResult, NotANumberFails) {
  actual[77] = NAN;
  EXPECT_NE(judged(), "");
}

INSTANTIATE_TEST_SUITE_P(Codecs, CorruptedResult, testing::Values("q8", "q4s"),
                         [](const auto& codec) { return std::string(codec.param); });

TEST(ExactResult, OneWrongBitFails) {
  const Inputs inputs(Inputs::Kind::kIntegers, ncclBfloat16, Reduction::kSum, 3);
  const Case test{Collective::kReduceScatter, ncclBfloat16, Reduction::kSum, 1001, 3};
  const std::vector<int> nodes = {0, 0, 2};
  std::vector<uint16_t> output(1001);
  for (size_t i = 0; i < output.size(); ++i) {
    float sum = 0;
    for (int rank = 0; rank < 3; ++rank) sum += inputs.value(rank, 1001 + i);
    store(output.data(), i, sum, ncclBfloat16);
  }
  const Expectation what{test, inputs, nodes, 1, "exact"};
  EXPECT_EQ(complaint(judge_output(what, output.data()).result(), 0), "");
  output[500] ^= 1;
  EXPECT_EQ(judge_output(what, output.data()).result().wrong, 1u);
}

TEST(Replicas, OneDifferingRankIsNamed) {
  const std::vector<uint64_t> equal = {7, 8, 7, 8, 7, 8};
  EXPECT_TRUE(differing_ranks(equal, 2, false).empty());
  const std::vector<uint64_t> one = {7, 8, 7, 8, 7, 9};
  EXPECT_EQ(differing_ranks(one, 2, false), std::vector<int>{2});
}

TEST(Replicas, OwnSlotOfAGatherMayDiffer) {
  const std::vector<uint64_t> own = {1, 5, 6, 4, 2, 6, 4, 5, 3};  // foreign slots agree: 4, 5, 6
  EXPECT_TRUE(differing_ranks(own, 3, true).empty());
  std::vector<uint64_t> foreign = own;
  foreign[8 - 1] = 9;  // rank 2's copy of slot 1
  EXPECT_EQ(differing_ranks(foreign, 3, true), std::vector<int>{2});
}

TEST(Elements, RoundTripThroughEveryType) {
  for (const auto type : {ncclFloat32, ncclFloat16, ncclBfloat16}) {
    for (const double value : {0.0, 1.0, -2.5, 0x1p-14, 0x1p-20, 1.0 / 3, -100.0}) {
      uint32_t memory = 0;
      const double number = nearest(value, type);
      store(&memory, 0, static_cast<float>(number), type);
      EXPECT_EQ(load(&memory, 0, type), number) << value << " as " << element_name(type);
      EXPECT_LE(std::fabs(number - value), half_step(value, type));
    }
  }
}

TEST(Counts, FollowNcclTests) {
  EXPECT_EQ(count_for(Collective::kAllGather, 8, ncclFloat32, 4), 0u);
  EXPECT_EQ(count_for(Collective::kReduceScatter, 1 << 20, ncclBfloat16, 3), 174760u);
  EXPECT_EQ(count_for(Collective::kAllReduce, 10, ncclFloat16, 3), 5u);
}

}  // namespace
}  // namespace slimccl::perf
