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

constexpr ncclDataType_t kTypes[] = {ncclInt8,    ncclUint8,    ncclInt32,      ncclUint32,
                                     ncclInt64,   ncclUint64,   ncclFloat16,    ncclFloat32,
                                     ncclFloat64, ncclBfloat16, ncclFloat8e4m3, ncclFloat8e5m2};

TEST(Elements, RoundTripThroughEveryType) {
  for (const auto type : kTypes) {
    for (const double value : {0.0, 1.0, -2.5, 0x1p-14, 0x1p-20, 1.0 / 3, -100.0, 0x1p-7}) {
      if (value < 0 && !element(type).is_signed) continue;
      uint64_t memory = 0;
      const double number = nearest(value, type);
      store(&memory, 0, number, type);
      EXPECT_EQ(load(&memory, 0, type), number) << value << " as " << element_name(type);
      const double most = element(type).is_float ? half_step(value, type) : 0.5;
      EXPECT_LE(std::fabs(number - value), most) << value << " as " << element_name(type);
    }
  }
}

// Bits from the formats' definitions, not from code.
TEST(Elements, HaveTheBitsOfTheirFormats) {
  const struct {
    ncclDataType_t type;
    double number;
    uint64_t bits;
  } known[] = {{ncclFloat8e4m3, 448, 0x7e},    {ncclFloat8e4m3, -0x1p-9, 0x81},
               {ncclFloat8e4m3, 0x1p-6, 0x08}, {ncclFloat8e5m2, 57344, 0x7b},
               {ncclFloat8e5m2, 1.5, 0x3e},    {ncclFloat8e5m2, 0x1p-16, 0x01},
               {ncclFloat16, -65504, 0xfbff},  {ncclFloat16, 0x1p-24, 0x0001},
               {ncclBfloat16, 1.0, 0x3f80},    {ncclBfloat16, -3.0, 0xc040},
               {ncclInt8, -128, 0x80},         {ncclUint64, 0x1p63, 0x8000000000000000u}};
  for (const auto& each : known) {
    uint64_t memory = 0;
    store(&memory, 0, each.number, each.type);
    EXPECT_EQ(memory, each.bits) << each.number << " as " << element_name(each.type);
    EXPECT_EQ(load(&memory, 0, each.type), each.number) << element_name(each.type);
  }
  const uint8_t e4m3_nan = 0x7f, e5m2_infinity = 0xfc;
  EXPECT_TRUE(std::isnan(load(&e4m3_nan, 0, ncclFloat8e4m3)));
  EXPECT_EQ(load(&e5m2_infinity, 0, ncclFloat8e5m2), -INFINITY);
}

TEST(Counts, FollowNcclTests) {
  const auto count = [](const char* collective, uint64_t bytes, ncclDataType_t type, int ranks) {
    return find_collective(collective)->count_for(bytes, type, ranks);
  };
  EXPECT_EQ(count("all_gather", 8, ncclFloat32, 4), 0u);
  EXPECT_EQ(count("reduce_scatter", 1 << 20, ncclBfloat16, 3), 174760u);
  EXPECT_EQ(count("all_reduce", 10, ncclFloat16, 3), 5u);
  EXPECT_EQ(count("alltoall", 1000, ncclFloat64, 3), 40u);
  EXPECT_EQ(count("gather", 1000, ncclInt8, 3), 320u);
  EXPECT_EQ(count("broadcast", 10, ncclInt32, 3), 2u);
  EXPECT_EQ(count("sendrecv", 7, ncclInt8, 3), 7u);
}

TEST(Counts, SizesAndBusFactorsAreThoseOfNcclTests) {
  const struct {
    const char* name;
    uint64_t bytes;
    double factor;
  } known[] = {{"all_gather", 80, 0.75}, {"reduce_scatter", 80, 0.75},
               {"all_reduce", 20, 1.5},  {"broadcast", 20, 1},
               {"reduce", 20, 1},        {"alltoall", 80, 0.75},
               {"gather", 80, 0.75},     {"scatter", 80, 0.75},
               {"sendrecv", 20, 1}};
  EXPECT_EQ(std::size(known), collectives().size());
  for (const auto& each : known) {
    const Case test{find_collective(each.name), ncclInt32, Reduction::kNone, 0, 5, 4};
    EXPECT_EQ(test.size_bytes(), each.bytes) << each.name;
    EXPECT_DOUBLE_EQ(test.bus_factor(), each.factor) << each.name;
  }
  EXPECT_EQ(find_collective("all_scatter"), nullptr);
}

}  // namespace
}  // namespace slimccl::perf
