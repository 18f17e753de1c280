// The laws of DESIGN.md section 4, for every row of the catalogue, every codec and scaling, and
// many shapes of cluster.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>

#include "base/error.h"
#include "collectives/catalog.h"
#include "collectives/verify.h"
#include "quant/kernels.h"
#include "support/reference.h"
#include "support/simulate.h"

namespace slimccl::collectives {
namespace {

using quant::Codec;

struct Case {
  const Row* row;
  std::string topology;
  Codecs codecs;
  ncclDataType_t type;
  Scaling scaling;
  uint64_t count;
  int root = 0;
  Reduction reduction = Reduction::kSum;
  bool divides = false;
};

std::string describe(const Case& c) {
  return concat(name(c.row->op), ":", c.row->name, " on ", c.topology, " ",
                quant::name(c.codecs.reduce), "/", quant::name(c.codecs.gather), " ",
                quant::type_name(c.type), " scaling ", static_cast<int>(c.scaling), " count ",
                c.count, " root ", c.root, " ", quant::name(c.reduction),
                c.divides ? " divided" : "");
}

// 1-17 ranks, every equal split of them, and uneven and interleaved nodes.
std::vector<std::string> topologies() {
  std::vector<std::string> texts;
  for (int ranks = 1; ranks <= 17; ++ranks) {
    for (int nodes = 1; nodes <= ranks; ++nodes) {
      if (ranks % nodes == 0) texts.push_back(concat(nodes, "x", ranks / nodes));
    }
  }
  for (const char* odd : {"3+1", "1+3", "2+2+1", "1+2+2", "5+1+3", "7+9", "1+16", "0,1,0,1",
                          "0,1,1,0", "0,1,2,0,1,2,1", "0,1,1,1,0,2,0,2,2,2"}) {
    texts.emplace_back(odd);
  }
  return texts;
}

std::vector<Codecs> codecs_of(const Row& row) {
  if (!row.lossy) return {Codecs{}};
  std::vector<Codecs> all;
  for (const Codec codec : {Codec::kBf16, Codec::kQ8, Codec::kQ4s}) {
    if (row.op == Collective::kAllReduce) {
      all.push_back({codec, Codec::kQ8});
      all.push_back({codec, Codec::kTensor});
    } else {
      all.push_back({codec, codec});
    }
  }
  return all;
}

class AllRanks {
 public:
  AllRanks(const Case& c, bool in_place)
      : topology(topology::parse(c.topology)), shape(shape_of(c)) {
    for (int rank = 0; rank < topology.ranks(); ++rank) {
      plans.push_back(c.row->plan(shape, topology, c.codecs, rank, in_place));
      links.push_back(link(plans.back(), testing::alias_of(shape, rank, in_place)));
    }
  }
  static Shape shape_of(const Case& c) {
    return cut_by(*c.row, {.op = c.row->op,
                           .type = c.type,
                           .count = c.count,
                           .scaling = c.scaling,
                           .reduction = c.reduction,
                           .divides = c.divides,
                           .root = c.root});
  }

  Topology topology;
  Shape shape;
  std::vector<Plan> plans;
  std::vector<Links> links;
};

// The first rank, the last, and one between.
std::set<int> roots_of(const Row& row, const Topology& topology) {
  if (!has_root(row.op)) return {0};
  return {0, topology.ranks() / 2, topology.ranks() - 1};
}

template <class Body>
void for_each_case(const std::vector<std::string>& clusters, const std::vector<uint64_t>& counts,
                   Body&& body) {
  for (const Row& row : catalog()) {
    for (const std::string& text : clusters) {
      const Topology topology = topology::parse(text);
      for (const Codecs& codecs : codecs_of(row)) {
        for (const uint64_t count : counts) {
          for (const Scaling scaling : {Scaling::kNone, Scaling::kUniform, Scaling::kPerRank}) {
            if (!is_reduction(row.op) && scaling != Scaling::kNone) continue;
            const auto type = count % 2 == 0 ? ncclFloat32 : ncclBfloat16;
            Case c{&row, text, codecs, type, scaling, count};
            for (const int root : roots_of(row, topology)) {
              c.root = root;
              if (row.fits(AllRanks::shape_of(c), topology)) body(c);
            }
          }
        }
      }
    }
  }
}

TEST(Laws, MessagesMeetSlicesFitAndNothingWaitsInACircle) {
  for_each_case(topologies(), {0, 1, 35, 4096}, [](const Case& c) {
    for (const bool in_place : {false, true}) {
      const AllRanks all(c, in_place);
      ASSERT_EQ(check_messages(all.plans), "") << describe(c);
      ASSERT_EQ(check_acyclic(all.plans, all.links), "") << describe(c);
      ASSERT_EQ(check_gathers(all.plans, all.topology), "") << describe(c);
      for (size_t rank = 0; rank < all.plans.size(); ++rank) {
        ASSERT_EQ(check_slices(all.plans[rank], all.shape, all.topology.ranks()), "")
            << describe(c) << " rank " << rank;
        ASSERT_EQ(check_levels(all.plans[rank], all.links[rank]), "")
            << describe(c) << " rank " << rank << " in place " << in_place << "\n"
            << to_text(all.plans[rank]);
      }
    }
  });
}

TEST(Laws, NoCircleEvenWhereNothingIsKnownOfTheBuffers) {
  for_each_case({"1x4", "2x2", "3+1", "2+2+1", "0,1,0,1", "4x4"}, {35}, [](const Case& c) {
    AllRanks all(c, false);
    for (size_t rank = 0; rank < all.plans.size(); ++rank)
      all.links[rank] = link(all.plans[rank], Alias::unknown());
    ASSERT_EQ(check_acyclic(all.plans, all.links), "") << describe(c);
  });
}

TEST(Laws, SentBytesEqualTheRowsFormula) {
  for_each_case(topologies(), {0, 1, 35, 5000}, [](const Case& c) {
    const AllRanks all(c, false);
    const WireBytes sent = sent_bytes(all.plans, all.topology);
    const WireBytes formula = c.row->wire_bytes(all.shape, all.topology, c.codecs);
    ASSERT_EQ(sent, formula) << describe(c) << ": sent " << sent.in_node << "/"
                             << sent.between_nodes << ", formula " << formula.in_node << "/"
                             << formula.between_nodes;
  });
}

TEST(Laws, NodeOutBytesAddUpToTheFormula) {
  for_each_case(topologies(), {35, 5000}, [](const Case& c) {
    if (c.row->name != "exact" && c.row->name != "two_hop") return;
    const Topology topology = topology::parse(c.topology);
    const Codecs codecs = c.row->lossy ? c.codecs : Codecs{};
    uint64_t sum = 0;
    for (int node = 0; node < topology.nodes(); ++node) {
      sum += node_out_bytes(AllRanks::shape_of(c), topology, codecs, node);
    }
    ASSERT_EQ(sum, c.row->wire_bytes(AllRanks::shape_of(c), topology, codecs).between_nodes)
        << describe(c);
  });
}

TEST(Laws, TheNodeRowSendsOtherNodesWhatTwoHopDoes) {
  const Codecs codecs{Codec::kTensor, Codec::kQ8};
  const Shape shape{.op = Collective::kAllGather, .type = ncclBfloat16, .count = 5001};
  const Row &node = find_row(shape.op, "node"), &two_hop = find_row(shape.op, "two_hop");
  for (const char* text : {"2x2", "4x2", "2x8", "0,1,0,1"}) {
    const Topology topology = topology::parse(text);
    ASSERT_TRUE(node.fits(shape, topology)) << text;
    EXPECT_TRUE(node.plan(shape, topology, codecs, 0, false).gather) << text;
    EXPECT_EQ(node.wire_bytes(shape, topology, codecs).between_nodes,
              two_hop.wire_bytes(shape, topology, codecs).between_nodes);
  }
  for (const char* other : {"1x4", "4x1", "3+1", "2+2+1"})
    EXPECT_FALSE(node.fits(shape, topology::parse(other))) << other;
}

// Random values; `exact` draws small integers, whose sums are exact in every type and order.
std::vector<std::byte> random_input(const Case& c, uint64_t bytes, bool exact,
                                    std::mt19937& random) {
  const uint64_t elems = bytes / quant::type_bytes(c.type);
  std::normal_distribution<float> normal(0.0f, 1e-3f);
  std::vector<float> values(elems);
  for (float& value : values)
    value = exact ? static_cast<float>(static_cast<int>(random() % 5) - 2) : normal(random);
  std::vector<std::byte> input(bytes);
  if (elems == 0) return input;
  if (!quant::is_float(c.type)) {  // any bits: of integers, fp64 and fp8
    for (std::byte& each : input) each = static_cast<std::byte>(random());
    return input;
  }
  const quant::Source source{reinterpret_cast<const std::byte*>(values.data()), Codec::kFp32, 1.0f};
  quant::best_kernels().fold({&source, 1}, {input.data(), Codec::kTensor, false}, c.type, elems);
  return input;
}

quant::Scalar scale_of(const Case& c, int ranks, int rank) {
  if (c.scaling == Scaling::kNone) return {};
  if (c.scaling == Scaling::kUniform) return quant::reciprocal(std::max(ranks, 2));
  const float own = 0.5f * static_cast<float>(1 + rank % 3);
  return {own, own, static_cast<uint64_t>(1 + rank % 3)};
}

struct Outcome {
  std::vector<std::vector<std::byte>> inputs, outputs;
  std::vector<quant::Scalar> scales;
};

// Runs the case in the simulator; in_place(rank) may differ between ranks.
template <class InPlace>
Outcome run(const Case& c, InPlace&& in_place, testing::Delivery delivery, bool exact,
            std::mt19937& random) {
  const AllRanks out_of_place(c, false), inside(c, true);
  const Shape& shape = out_of_place.shape;
  const int ranks = out_of_place.topology.ranks();
  std::vector<Plan> plans;
  std::vector<Links> links;
  std::vector<testing::RankMemory> memory;
  Outcome result;
  for (int rank = 0; rank < ranks; ++rank) {
    const AllRanks& source = in_place(rank) ? inside : out_of_place;
    plans.push_back(source.plans[static_cast<size_t>(rank)]);
    links.push_back(source.links[static_cast<size_t>(rank)]);
    memory.push_back(testing::place(shape, ranks, rank, in_place(rank)));
    result.inputs.push_back(random_input(c, input_bytes(shape, ranks), exact, random));
    memory.back().scale = scale_of(c, exact ? 4 : ranks, rank);
    result.scales.push_back(memory.back().scale);
    const auto& input = result.inputs.back();
    if (!input.empty())
      std::memcpy(memory.back().memory.data() + memory.back().input_at, input.data(), input.size());
  }
  EXPECT_TRUE(testing::simulate(shape, plans, links, memory, delivery, random))
      << describe(c) << ": deadlock";
  for (int rank = 0; rank < ranks; ++rank) {
    const auto& m = memory[static_cast<size_t>(rank)];
    const auto first = m.memory.begin() + static_cast<int64_t>(m.output_at);
    result.outputs.emplace_back(first, first + static_cast<int64_t>(output_bytes(shape, ranks)));
  }
  return result;
}

class Interleavings : public ::testing::TestWithParam<testing::Delivery> {};

TEST_P(Interleavings, EveryOrderGivesTheBitsOfTheRowsOwnFoldOrder) {
  std::mt19937 random(7);
  const std::vector<std::string> clusters = {"1x1", "1x2",   "1x5",     "2x1",
                                             "2x2", "3+1",   "1+3",     "4x2",
                                             "2x4", "2+2+1", "0,1,0,1", "0,1,2,0,1,2,1"};
  for_each_case(clusters, {1, 34, 67}, [&](const Case& c) {
    const Topology topology = topology::parse(c.topology);
    for (const int in_place : {0, 1, 2}) {  // nobody, everybody, every other rank
      const auto inside = [&](int rank) {
        return in_place == 1 || (in_place == 2 && rank % 2 == 1);
      };
      const Outcome result = run(c, inside, GetParam(), false, random);
      const Codecs codecs = c.row->lossy ? c.codecs : Codecs{};
      for (int rank = 0; rank < topology.ranks(); ++rank) {
        const auto expected =
            testing::expected_output(*c.row, AllRanks::shape_of(c), topology, codecs, result.inputs,
                                     result.scales, rank, inside(rank));
        if (expected.empty()) continue;  // a reduce's other ranks
        ASSERT_EQ(result.outputs[static_cast<size_t>(rank)], expected)
            << describe(c) << " rank " << rank << " in place " << in_place;
      }
    }
  });
}
INSTANTIATE_TEST_SUITE_P(Delivery, Interleavings,
                         ::testing::Values(testing::Delivery::kEager,
                                           testing::Delivery::kRendezvous));

float element(const std::vector<std::byte>& buffer, ncclDataType_t type, uint64_t index) {
  float value = 0;
  const quant::Source source{buffer.data() + index * quant::type_bytes(type), Codec::kTensor, 1.0f};
  quant::all_kernels().front().fold(
      {&source, 1}, {reinterpret_cast<std::byte*>(&value), Codec::kFp32, false}, type, 1);
  return value;
}

TEST(Laws, ExactRowsGiveTheNaiveSumWhereSumsAreExact) {
  std::mt19937 random(11);
  for_each_case({"1x3", "2x2", "3+1", "0,1,0,1", "2+2+1"}, {1, 35, 64}, [&](const Case& c) {
    if (c.row->lossy || !is_reduction(c.row->op)) return;
    const Outcome result = run(
        c, [](int) { return false; }, testing::Delivery::kEager, true, random);
    const auto ranks = result.inputs.size();
    for (uint64_t i = 0; i < c.count * (c.row->op == Collective::kReduceScatter ? ranks : 1); ++i) {
      float sum = 0;
      for (size_t rank = 0; rank < ranks; ++rank) {
        sum += result.scales[rank].f32 * element(result.inputs[rank], c.type, i);
      }
      const size_t holder = c.row->op == Collective::kReduceScatter ? i / c.count
                            : c.row->op == Collective::kReduce      ? static_cast<size_t>(c.root)
                                                                    : 0;
      ASSERT_EQ(element(result.outputs[holder], c.type, i % c.count), sum)
          << describe(c) << " element " << i;
    }
  });
}

TEST(Laws, ReplicasHoldTheSameBits) {
  std::mt19937 random(13);
  for_each_case({"2x2", "3+1", "0,1,0,1", "2x4"}, {67}, [&](const Case& c) {
    if (c.row->op == Collective::kReduceScatter || c.row->op == Collective::kReduce) return;
    const Outcome result = run(
        c, [](int) { return false; }, testing::Delivery::kEager, false, random);
    for (const auto& output : result.outputs)
      ASSERT_EQ(output, result.outputs.front()) << describe(c);
  });
}

// Every type under every reduction, by every exact row that has one.
TEST(Laws, AllTypesAndReductionsFollowTheRowsOwnFoldOrder) {
  std::mt19937 random(19);
  struct Kind {
    Reduction reduction;
    Scaling scaling;
    bool divides;
  };
  for (const Row& row : catalog()) {
    if (row.lossy || !is_reduction(row.op)) continue;
    for (const char* text : {"1x1", "1x3", "2x2", "3+1", "0,1,0,1", "2+2+1"}) {
      for (int type = 0; type < ncclNumTypes; ++type) {
        const bool integer = type <= ncclUint64;
        for (const Kind& kind :
             {Kind{Reduction::kSum, Scaling::kNone, false},
              Kind{Reduction::kProd, Scaling::kNone, false},
              Kind{Reduction::kMax, Scaling::kNone, false},
              Kind{Reduction::kMin, Scaling::kNone, false},
              Kind{Reduction::kSum, integer ? Scaling::kNone : Scaling::kUniform, integer},
              Kind{Reduction::kSum, Scaling::kPerRank, false}}) {
          const Case c{&row,         text, {}, static_cast<ncclDataType_t>(type),
                       kind.scaling, 35,   0,  kind.reduction,
                       kind.divides};
          const Topology topology = topology::parse(text);
          if (!row.fits(AllRanks::shape_of(c), topology)) continue;
          const Outcome result = run(
              c, [](int rank) { return rank % 2 == 1; }, testing::Delivery::kEager, false, random);
          for (int rank = 0; rank < topology.ranks(); ++rank) {
            const auto expected =
                testing::expected_output(row, AllRanks::shape_of(c), topology, {}, result.inputs,
                                         result.scales, rank, rank % 2 == 1);
            if (expected.empty()) continue;
            ASSERT_EQ(result.outputs[static_cast<size_t>(rank)], expected) << describe(c);
          }
        }
      }
    }
  }
}

// A non-finite input must reach whoever would have seen it, through every codec: loss scalers rely
// on it.
TEST(Laws, NonFiniteInputsArriveAsNonFinite) {
  std::mt19937 random(17);
  for_each_case({"2x2", "3+1"}, {64}, [&](const Case& c) {
    if (c.type != ncclFloat32 || has_root(c.row->op)) return;
    const AllRanks all(c, false);
    const int ranks = all.topology.ranks();
    std::vector<testing::RankMemory> memory;
    for (int rank = 0; rank < ranks; ++rank) {
      memory.push_back(testing::place(all.shape, ranks, rank, false));
      const auto input = random_input(c, input_bytes(all.shape, ranks), false, random);
      std::memcpy(memory.back().memory.data(), input.data(), input.size());
    }
    const float bad = std::numeric_limits<float>::infinity();
    std::memcpy(memory.back().memory.data() + sizeof(float), &bad,
                sizeof bad);  // element 1 of the last rank
    ASSERT_TRUE(testing::simulate(all.shape, all.plans, all.links, memory,
                                  testing::Delivery::kEager, random));
    const uint64_t at =
        c.row->op == Collective::kAllGather ? c.count * static_cast<uint64_t>(ranks - 1) + 1 : 1;
    const auto& first = memory.front();
    float seen = 0;
    std::memcpy(&seen, first.memory.data() + first.output_at + at * sizeof(float), sizeof seen);
    ASSERT_FALSE(std::isfinite(seen)) << describe(c);
  });
}

}  // namespace
}  // namespace slimccl::collectives
