// The exact checks of collective_perf -c 1, for every collective, type and reduction: results made
// here in plain loops pass, whatever the order of evaluation; the same with one fault do not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "buffers.h"
#include "checks.h"
#include "elements.h"
#include "expectation.h"
#include "workload.h"

namespace slimccl::perf {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint64_t kCount = 129;
constexpr Reduction kReductions[] = {Reduction::kSum, Reduction::kProd, Reduction::kMax,
                                     Reduction::kMin, Reduction::kAvg,  Reduction::kMulSum};

// The library's arithmetic on one element of all ranks, taken in `order`, partial results rounded
// to the tensor's type: what exact inputs must not notice.
double evaluate(const std::vector<double>& inputs, const std::vector<int>& order, Reduction op,
                ncclDataType_t type) {
  const auto ranks = static_cast<int>(inputs.size());
  const bool is_float = element(type).is_float;
  const auto term = [&](int rank) {
    double number = inputs[static_cast<size_t>(rank)];
    if (op == Reduction::kMulSum) number *= rank % 2 == 1 ? 2 : 1;
    if (op == Reduction::kAvg && is_float) {
      number = type == ncclFloat64
                   ? number * (1.0 / ranks)
                   : static_cast<float>(number) * (1.0f / static_cast<float>(ranks));
    }
    return nearest(number, type);
  };
  double result = term(order.front());
  for (size_t i = 1; i < order.size(); ++i) {
    const double next = term(order[i]);
    result = op == Reduction::kProd  ? result * next
             : op == Reduction::kMax ? std::max(result, next)
             : op == Reduction::kMin ? std::min(result, next)
                                     : result + next;
    if (is_float) result = nearest(result, type);
  }
  return op == Reduction::kAvg && !is_float ? std::trunc(result / ranks) : result;
}

class Simulation {
 public:
  Simulation(const Case& test, const Inputs& inputs)
      : test_(test), width_(element_bytes(test.type)) {
    for (int rank = 0; rank < test.ranks; ++rank) {
      Bytes memory(test.send_elems(rank) * width_);
      inputs.fill(memory.data(), rank, 0, test.send_elems(rank));
      inputs_.push_back(std::move(memory));
      order_.push_back(rank);
    }
  }
  void reverse() { std::reverse(order_.begin(), order_.end()); }
  void leave_out(int rank) { std::erase(order_, rank); }

  // What `rank` receives, in the words of nccl.h.
  [[nodiscard]] Bytes output(int rank) const {
    const std::string name = test_.collective->name;
    const int root = test_.root;
    const int before = rank == 0 ? test_.ranks - 1 : rank - 1;
    if (name == "all_gather") return slices_of_all(0);
    if (name == "reduce_scatter") return reduced(rank);
    if (name == "all_reduce") return reduced(0);
    if (name == "broadcast") return slice(root, 0);
    if (name == "reduce") return rank == root ? reduced(0) : Bytes{};
    if (name == "alltoall") return slices_of_all(rank);
    if (name == "gather") return rank == root ? slices_of_all(0) : Bytes{};
    if (name == "scatter") return slice(root, rank);
    if (name == "sendrecv") return slice(before, 0);
    ADD_FAILURE() << "say here what " << name << " does";
    return {};
  }

 private:
  [[nodiscard]] Bytes slice(int rank, int slot) const {
    const Bytes& from = inputs_[static_cast<size_t>(rank)];
    const auto bytes = static_cast<ptrdiff_t>(test_.count * width_);
    return {from.begin() + slot * bytes, from.begin() + (slot + 1) * bytes};
  }
  [[nodiscard]] Bytes slices_of_all(int slot) const {
    Bytes all;
    for (int rank = 0; rank < test_.ranks; ++rank) {
      const Bytes one = slice(rank, slot);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }
  [[nodiscard]] Bytes reduced(int slot) const {
    Bytes result(test_.count * width_);
    std::vector<double> inputs(static_cast<size_t>(test_.ranks));
    for (uint64_t i = 0; i < test_.count; ++i) {
      for (size_t rank = 0; rank < inputs.size(); ++rank) {
        inputs[rank] =
            load(inputs_[rank].data(), static_cast<uint64_t>(slot) * test_.count + i, test_.type);
      }
      store(result.data(), i, evaluate(inputs, order_, test_.reduction, test_.type), test_.type);
    }
    return result;
  }

  Case test_;
  size_t width_;
  std::vector<Bytes> inputs_;
  std::vector<int> order_;
};

// Calls body(test, inputs) for every collective, type, reduction and root on `ranks` ranks.
template <class Body>
void for_each_case(int ranks, Body&& body) {
  for (const Collective& collective : collectives()) {
    for (int type = 0; type < ncclNumTypes; ++type) {
      for (const Reduction each : kReductions) {
        const Reduction reduction = collective.reduces ? each : Reduction::kNone;
        const int root = collective.has_root ? ranks - 1 : -1;
        const Case test{&collective, static_cast<ncclDataType_t>(type), reduction, root, kCount,
                        ranks};
        SCOPED_TRACE(std::string(collective.name) + " " + element_name(test.type) + " " +
                     name(reduction) + " on " + std::to_string(ranks));
        body(test, Inputs(Inputs::Kind::kExact, test.type, reduction, ranks));
        if (!collective.reduces) break;
      }
    }
  }
}

uint64_t wrong(const Case& test, const Inputs& inputs, int rank, const Bytes& output) {
  const std::vector<int> nodes(static_cast<size_t>(test.ranks), 0);
  return judge_output({test, inputs, nodes, rank, "exact"}, output.data()).result().wrong;
}

class ExactResults : public testing::TestWithParam<int> {};

TEST_P(ExactResults, RightOnesPassInEveryOrder) {
  for_each_case(GetParam(), [](const Case& test, const Inputs& inputs) {
    Simulation simulation(test, inputs);
    for (int turn = 0; turn < 2; ++turn) {
      for (int rank = 0; rank < test.ranks; ++rank) {
        ASSERT_EQ(wrong(test, inputs, rank, simulation.output(rank)), 0u) << "rank " << rank;
      }
      simulation.reverse();
    }
  });
}

TEST_P(ExactResults, OneWrongBitFails) {
  for_each_case(GetParam(), [](const Case& test, const Inputs& inputs) {
    const Simulation simulation(test, inputs);
    for (int rank = 0; rank < test.ranks; ++rank) {
      Bytes output = simulation.output(rank);
      if (output.empty()) continue;
      output[output.size() / 2] ^= std::byte{1};
      output.back() ^= std::byte{0x80};
      ASSERT_EQ(wrong(test, inputs, rank, output), 2u) << "rank " << rank;
    }
  });
}

TEST_P(ExactResults, AMissingRankFails) {
  for_each_case(GetParam(), [](const Case& test, const Inputs& inputs) {
    if (!test.collective->reduces || test.ranks == 1) return;
    for (int missing = 0; missing < test.ranks; ++missing) {
      Simulation simulation(test, inputs);
      simulation.leave_out(missing);
      const int rank = std::max(test.root, 0);
      ASSERT_GT(wrong(test, inputs, rank, simulation.output(rank)), 0u) << "without " << missing;
    }
  });
}

TEST_P(ExactResults, AnotherRanksResultFails) {
  for_each_case(GetParam(), [](const Case& test, const Inputs& inputs) {
    if (test.ranks == 1) return;
    const Simulation simulation(test, inputs);
    const Bytes own = simulation.output(0), other = simulation.output(1);
    const bool equal_by_nature = test.collective->replicas != Replicas::kNone;
    if (equal_by_nature || own.empty()) return;
    ASSERT_GT(wrong(test, inputs, 0, other), kCount / 4);
  });
}

TEST_P(ExactResults, SwappedElementsFail) {
  for_each_case(GetParam(), [](const Case& test, const Inputs& inputs) {
    const int rank = std::max(test.root, 0);
    Bytes output = Simulation(test, inputs).output(rank);
    const auto half = static_cast<ptrdiff_t>(output.size() / 2 / 8 * 8);
    std::swap_ranges(output.begin(), output.begin() + half, output.begin() + half);
    ASSERT_GT(wrong(test, inputs, rank, output), kCount / 8);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, ExactResults, testing::Values(1, 2, 3, 4, 16));

TEST(ExactInputs, OfAReductionSayAnother) {
  for (int type = 0; type < ncclNumTypes; ++type) {
    const auto t = static_cast<ncclDataType_t>(type);
    for (const Reduction made_for : kReductions) {
      const Case test{find_collective("all_reduce"), t, made_for, -1, kCount, 3};
      const Inputs inputs(Inputs::Kind::kExact, t, made_for, 3);
      for (const Reduction run : kReductions) {
        if (run == made_for) continue;
        Case other = test;
        other.reduction = run;
        const Bytes output = Simulation(other, inputs).output(0);
        EXPECT_GT(wrong(test, inputs, 0, output), 0u)
            << element_name(t) << ": " << name(run) << " for " << name(made_for);
      }
    }
  }
}

TEST(ExactInputs, OfMaximaUseTheWholeType) {
  const Inputs wide(Inputs::Kind::kExact, ncclUint64, Reduction::kMax, 2);
  const Inputs narrow(Inputs::Kind::kExact, ncclInt8, Reduction::kMin, 2);
  double most = 0, least = 0;
  for (uint64_t i = 0; i < 4096; ++i) {
    most = std::max(most, wide.value(0, i));
    least = std::min(least, narrow.value(0, i));
  }
  EXPECT_GT(most, 0x1p63);
  EXPECT_LT(most, 0x1p64);
  EXPECT_LE(least, -120);
  EXPECT_GE(least, -128);
}

class Damage : public testing::TestWithParam<bool> {
 protected:
  static Case of(const char* collective) {
    const Collective* found = find_collective(collective);
    return {found,
            ncclInt32,
            found->reduces ? Reduction::kSum : Reduction::kNone,
            found->has_root ? 1 : -1,
            kCount,
            3};
  }
  static Buffers buffers(const Case& test, int rank, bool in_place) {
    const Inputs inputs(Inputs::Kind::kExact, test.type, test.reduction, test.ranks);
    return Buffers(test, inputs, rank, in_place, {GetParam() ? 4u : 0u, nullptr});
  }
};

TEST_P(Damage, BehindTheResultIsSeen) {
  const Case test = of("all_gather");
  Buffers used = buffers(test, 0, false);
  used.prepare();
  EXPECT_EQ(used.damage(), nullptr);
  static_cast<char*>(used.recv())[test.recv_elems(0) * 4] = 0;
  EXPECT_NE(used.damage(), nullptr);
}

TEST_P(Damage, ToTheSendBufferIsSeen) {
  Buffers used = buffers(of("all_reduce"), 0, false);
  used.prepare();
  const_cast<char*>(static_cast<const char*>(used.send()))[5] ^= 1;
  EXPECT_NE(used.damage(), nullptr);
}

TEST_P(Damage, InPlaceIsSeenWhereThereIsNoResult) {
  Buffers leaf = buffers(of("reduce"), 0, true), root = buffers(of("reduce"), 1, true);
  for (Buffers* each : {&leaf, &root}) {
    each->prepare();
    EXPECT_EQ(each->send(), each->recv());
    static_cast<char*>(each->recv())[5] ^= 1;
  }
  EXPECT_NE(leaf.damage(), nullptr);
  EXPECT_EQ(root.damage(), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Alignment, Damage, testing::Bool());

TEST(InPlaceForms, AreThoseOfNccl) {
  const auto offset = [](const char* collective, int rank) {
    const Collective* found = find_collective(collective);
    const Case test{found,
                    ncclInt32,
                    found->reduces ? Reduction::kSum : Reduction::kNone,
                    found->has_root ? 1 : -1,
                    kCount,
                    3};
    const Inputs inputs(Inputs::Kind::kExact, test.type, test.reduction, test.ranks);
    const Buffers used(test, inputs, rank, true, {0, nullptr});
    return static_cast<const char*>(used.send()) - static_cast<const char*>(used.recv());
  };
  const auto slot = static_cast<ptrdiff_t>(4 * kCount);
  EXPECT_EQ(offset("all_gather", 2), 2 * slot);
  EXPECT_EQ(offset("reduce_scatter", 2), -2 * slot);
  EXPECT_EQ(offset("gather", 1), slot);
  EXPECT_EQ(offset("scatter", 1), -slot);
  for (const char* name : {"all_reduce", "broadcast", "reduce"}) EXPECT_EQ(offset(name, 2), 0);
}

}  // namespace
}  // namespace slimccl::perf
