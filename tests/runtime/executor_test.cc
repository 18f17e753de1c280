// The executor over loopback, all ranks in one thread: whole calls, many segments, every row, in
// place and not.
#include "runtime/executor.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "base/error.h"
#include "collectives/verify.h"
#include "runtime/cluster.h"
#include "support/reference.h"
#include "support/simulate.h"

namespace slimccl::runtime {
namespace {

using collectives::Codecs;
using collectives::Collective;
using collectives::Shape;
using quant::Codec;
using topology::Topology;

constexpr ExecutorLimits kSmallSegments{
    .segment_elems = 2048, .window = 3, .arena_bytes = uint64_t{1} << 30};

std::vector<std::byte> random_floats(uint64_t bytes, std::mt19937& random) {
  std::normal_distribution<float> normal(0.0f, 1e-3f);
  std::vector<float> values(bytes / sizeof(float));
  for (float& value : values) value = normal(random);
  std::vector<std::byte> buffer(bytes);
  if (bytes > 0) std::memcpy(buffer.data(), values.data(), bytes);
  return buffer;
}

struct Case {
  const collectives::Row* row;
  std::string topology;
  uint64_t count;
  bool in_place;
};

class WholeCalls : public ::testing::TestWithParam<std::string> {};

// Segments of 2048 elements are superblocks: cutting a call changes no bit of any codec's result.
void run_case(const Case& c) {
  std::mt19937 random(3);
  ExecutorLimits limits = kSmallSegments;
  if (c.count % 2 == 1) limits.streamed_output_bytes = 0;  // odd counts past the caches
  Cluster cluster(c.topology, limits);
  const int ranks = cluster.topology.ranks();
  const Shape shape =
      cut_by(*c.row, {.op = c.row->op, .type = ncclFloat32, .count = c.count, .root = ranks - 1});
  const Codecs codecs =
      c.row->lossy ? Codecs{Codec::kQ4s,
                            c.row->op == Collective::kReduceScatter ? Codec::kTensor : Codec::kQ8}
                   : Codecs{};
  std::vector<testing::RankMemory> memory;
  std::vector<std::vector<std::byte>> inputs;
  for (int rank = 0; rank < ranks; ++rank) {
    memory.push_back(testing::place(shape, ranks, rank, c.in_place));
    inputs.push_back(random_floats(collectives::input_bytes(shape, ranks), random));
    auto& m = memory.back();
    if (!inputs.back().empty())
      std::memcpy(m.memory.data() + m.input_at, inputs.back().data(), inputs.back().size());
    cluster.executors[static_cast<size_t>(rank)]->start({shape,
                                                         {c.row, codecs, "", ""},
                                                         m.memory.data() + m.input_at,
                                                         m.memory.data() + m.output_at,
                                                         testing::alias_of(shape, rank, c.in_place),
                                                         c.in_place});
  }
  ASSERT_TRUE(cluster.run(20));
  const std::vector<quant::Scalar> scales(static_cast<size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    const auto& m = memory[static_cast<size_t>(rank)];
    const auto expected = testing::expected_output(*c.row, shape, cluster.topology, codecs, inputs,
                                                   scales, rank, c.in_place);
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(),
                           m.memory.begin() + static_cast<int64_t>(m.output_at)))
        << name(c.row->op) << ":" << c.row->name << " on " << c.topology << " count " << c.count
        << " rank " << rank;
  }
}

TEST_P(WholeCalls, EqualTheReferenceBitForBit) {
  for (const collectives::Row& row : collectives::catalog()) {
    const Shape shape{.op = row.op, .type = ncclFloat32, .count = 1};
    if (!row.fits(shape, topology::parse(GetParam()))) continue;
    for (const uint64_t count : {0, 1, 2047, 2048, 2049, 4 * 2048 + 7, 40'001}) {
      for (const bool in_place : {false, true}) run_case({&row, GetParam(), count, in_place});
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Clusters, WholeCalls,
                         ::testing::Values("1x1", "1x3", "2x1", "2x2", "3+1", "2+2+1", "0,1,0,1"));

TEST(Compile, SaysWhetherOutputIsReadAgain) {
  using collectives::Kind;
  using collectives::Region;
  const collectives::Operand output{{Region::kOutput, 0, 64}, Codec::kTensor};
  const collectives::Operand input{{Region::kInput, 0, 64}, Codec::kTensor};
  collectives::Plan plan;
  plan.steps.push_back(
      {.kind = Kind::kFold, .level = 0, .elems = 16, .from = {input}, .to = output});
  EXPECT_FALSE(compile(plan, {}).rereads_output);
  plan.steps.push_back({.kind = Kind::kSend, .level = 1, .peer = 1, .elems = 16, .from = {output}});
  EXPECT_TRUE(compile(plan, {}).rereads_output);
}

TEST(SegmentElems, IsAWholeNumberOfSuperblocksAndItsScratchFitsTheArena) {
  const ExecutorLimits limits{.segment_elems = 131072, .window = 6, .arena_bytes = 64 << 20};
  for (const char* text :
       {"1x1", "2x2", "8+1", "1,0,2,3,4,5,6,7,0,0,0,0,0,0,0", "4x16", "1x9", "9x1"}) {
    const Topology topology = topology::parse(text);
    for (const collectives::Row& row : collectives::catalog()) {
      for (const uint64_t count : {uint64_t{1}, uint64_t{5000}, uint64_t{1} << 22}) {
        for (const auto scaling :
             {collectives::Scaling::kUniform, collectives::Scaling::kPerRank}) {
          Shape shape =
              cut_by(row, {.op = row.op, .type = ncclFloat32, .count = count, .scaling = scaling});
          if (!row.fits(shape, topology)) continue;
          const uint64_t elems = segment_elems(row, shape, topology, limits);
          EXPECT_EQ(elems % quant::kSuperblock, 0u);
          if (elems == quant::kSuperblock) continue;  // the least there is
          shape.elems = elems;
          for (int rank = 0; rank < topology.ranks(); ++rank) {
            const auto plan = row.plan(shape, topology, {Codec::kQ8, Codec::kQ8}, rank, false);
            const uint64_t padding = 64 * plan.steps.size() * limits.window;
            EXPECT_LE(plan.scratch_bytes * limits.window, limits.arena_bytes + padding)
                << name(row.op) << ":" << row.name << " on " << text << " rank " << rank;
          }
        }
      }
    }
  }
}

TEST(SegmentElems, GrowsWhereTheTagWouldRunOut) {
  const Shape shape{.op = Collective::kAllGather, .type = ncclFloat32, .count = uint64_t{1} << 40};
  const ExecutorLimits limits{.segment_elems = 2048, .window = 6, .arena_bytes = uint64_t{1} << 40};
  EXPECT_LE(ceil_div(shape.count, segment_elems(collectives::find_row(shape.op, "exact"), shape,
                                                topology::parse("2x1"), limits)),
            uint64_t{1} << 20);
}

// Rank 0 of two calls an all-gather of 16 floats; rank 1 does not.
class LonelyCall : public ::testing::Test {
 protected:
  LonelyCall() {
    const Shape shape{.op = Collective::kAllGather, .type = ncclFloat32, .count = 16};
    cluster_.executors[0]->start({shape,
                                  {&collectives::find_row(shape.op, "exact"), {}, "", ""},
                                  reinterpret_cast<std::byte*>(input_.data()),
                                  reinterpret_cast<std::byte*>(output_.data()),
                                  collectives::Alias::none(),
                                  false});
  }
  ~LonelyCall() override {
    cluster_.routers[0]->abort("the test ends");
    cluster_.executors[0]->drop();
  }

  std::vector<float> input_ = std::vector<float>(16), output_ = std::vector<float>(32);
  Cluster cluster_{"2x1", kSmallSegments};
};

TEST_F(LonelyCall, SaysWhichPeerAndBytesItWaitsFor) {
  EXPECT_FALSE(cluster_.run(0.05));
  const std::string text = cluster_.executors[0]->waiting_for();
  EXPECT_NE(text.find("to receive 64 bytes from rank 1"), std::string::npos) << text;
}

TEST_F(LonelyCall, FailsWithThePeerThatLeft) {
  cluster_.routers[1]->abort("it had enough");
  for (int i = 0; i < 1000 && !cluster_.executors[0]->failure(); ++i) {
    cluster_.routers[0]->progress();
    cluster_.executors[0]->progress();
  }
  ASSERT_TRUE(cluster_.executors[0]->failure());
  EXPECT_EQ(cluster_.executors[0]->failure()->rank, 1);
}

}  // namespace
}  // namespace slimccl::runtime
