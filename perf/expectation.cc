#include "expectation.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "elements.h"

namespace slimccl::perf {
namespace {

constexpr uint64_t kChunk = 65536;  // elements judged at once: whole superblocks

struct Numbers {
  std::vector<double> expected, bound;
};

// The gathered values themselves, and one message per source.
void expect_gathered(const Expectation& what, int source, uint64_t first, Numbers& numbers) {
  what.inputs.scaled(source, first, numbers.expected);
  add_codec_bound(what.codec, numbers.expected, numbers.bound);
}

// The sum over ranks. Each node's partial sum is one message to the owner, unless the owner lives
// on that node; `owner` -1: unknown, so every node is taken to send.
void expect_reduced(const Expectation& what, int owner, uint64_t first, Numbers& numbers) {
  const size_t size = numbers.expected.size();
  const bool quantized = what.codec != "exact";
  std::map<int, std::vector<double>> partials;
  std::vector<double> input(size);
  std::vector<double> magnitude(size, 0.0);
  for (int rank = 0; rank < what.test.ranks; ++rank) {
    auto& partial = partials[what.node_of[static_cast<size_t>(rank)]];
    partial.resize(size, 0.0);
    what.inputs.scaled(rank, first, input);
    for (size_t i = 0; i < size; ++i) {
      partial[i] += input[i];
      magnitude[i] += std::fabs(input[i]);
    }
  }
  for (const auto& [node, partial] : partials) {
    for (size_t i = 0; i < size; ++i) numbers.expected[i] += partial[i];
    const bool stays = owner >= 0 && what.node_of[static_cast<size_t>(owner)] == node;
    if (quantized && !stays) {
      add_codec_bound(what.codec.substr(0, what.codec.find('+')), partial, numbers.bound);
    }
  }
  const bool inexact_scale =
      what.inputs.scale(0) != 1.0 && (what.test.ranks & (what.test.ranks - 1)) != 0;
  if (!quantized && !inexact_scale) return;
  // fp32 arithmetic, and roundings of partial sums to the tensor's type.
  for (size_t i = 0; i < size; ++i) {
    numbers.bound[i] += magnitude[i] * 1e-6;
    if (!quantized) {
      numbers.bound[i] +=
          static_cast<double>(partials.size()) * 2 * half_step(magnitude[i], what.test.type);
    }
  }
}

// The result of an all-reduce is encoded once more on its way back.
void add_second_hop(const Expectation& what, Numbers& numbers) {
  std::vector<double> most(numbers.expected.size());
  for (size_t i = 0; i < most.size(); ++i) {
    most[i] = std::fabs(numbers.expected[i]) + numbers.bound[i];
  }
  // "q4s+q8": the second; "q4s": the same again.
  add_codec_bound(what.codec.substr(what.codec.find('+') + 1), most, numbers.bound);
  widen(numbers.bound);
}

void add_output_rounding(const Expectation& what, Numbers& numbers) {
  for (size_t i = 0; i < numbers.bound.size(); ++i) {
    if (numbers.bound[i] > 0) {
      numbers.bound[i] +=
          half_step(std::fabs(numbers.expected[i]) + numbers.bound[i], what.test.type);
    }
  }
}

}  // namespace

Judge judge_output(const Expectation& what, const void* output) {
  Judge judge;
  const Case& test = what.test;
  const uint64_t total = test.recv_elems();
  const bool gather = test.collective == Collective::kAllGather;
  const bool scatter = test.collective == Collective::kReduceScatter;
  const uint64_t margin = test.collective == Collective::kAllReduce ? 2048 : 0;
  std::vector<double> actual;
  for (uint64_t at = 0; at < total;) {
    const uint64_t slot = test.count == 0 ? 0 : at / test.count;
    const uint64_t end = std::min(at + kChunk, (slot + 1) * test.count);
    const uint64_t from = at - std::min(margin, at);
    const uint64_t to = std::min(end + margin, total);
    Numbers numbers{std::vector<double>(to - from, 0.0), std::vector<double>(to - from, 0.0)};
    if (gather) {
      expect_gathered(what, static_cast<int>(slot), at - slot * test.count, numbers);
    } else if (scatter) {
      expect_reduced(what, what.rank, static_cast<uint64_t>(what.rank) * test.count + at, numbers);
    } else {
      expect_reduced(what, -1, from, numbers);
      if (what.codec != "exact") add_second_hop(what, numbers);
    }
    add_output_rounding(what, numbers);
    actual.resize(end - at);
    for (uint64_t i = at; i < end; ++i) actual[i - at] = load(output, i, test.type);
    judge.add(std::span(numbers.expected).subspan(at - from, end - at), actual,
              std::span(numbers.bound).subspan(at - from, end - at));
    at = end;
  }
  return judge;
}

std::vector<uint64_t> replica_hashes(const Case& test, const void* output) {
  if (test.collective == Collective::kReduceScatter) return {};
  const uint64_t slot = test.count * element_bytes(test.type);
  const auto slots = test.recv_elems() / std::max<uint64_t>(1, test.count);
  std::vector<uint64_t> hashes;
  for (uint64_t i = 0; i < slots; ++i) {
    hashes.push_back(hash_bytes(static_cast<const char*>(output) + i * slot, slot));
  }
  return hashes;
}

}  // namespace slimccl::perf
