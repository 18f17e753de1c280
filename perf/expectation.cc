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
    if (!stays) {
      add_codec_bound(what.codec.substr(0, what.codec.find('+')), partial, numbers.bound);
    }
  }
  // fp32 arithmetic.
  for (size_t i = 0; i < size; ++i) numbers.bound[i] += magnitude[i] * 1e-6;
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

// Elements [first, first + elems) of one slot of the output.
struct Range {
  int slot;
  uint64_t first, elems;
};

const std::byte* at(const void* output, const Case& test, const Range& range) {
  const uint64_t index = static_cast<uint64_t>(range.slot) * test.count + range.first;
  return static_cast<const std::byte*>(output) + index * element_bytes(test.type);
}

void judge_exact(const Expectation& what, const void* output, const Range& range, Judge& judge) {
  const Case& test = what.test;
  const Origin origin = test.collective->origin(test, what.rank, range.slot);
  const uint64_t first = static_cast<uint64_t>(origin.slot) * test.count + range.first;
  std::vector<std::byte> expected(range.elems * element_bytes(test.type));
  if (origin.rank != Origin::kReduced) {
    what.inputs.fill(expected.data(), origin.rank, first, range.elems);
  } else {
    for (uint64_t i = 0; i < range.elems; ++i) {
      store(expected.data(), i, what.inputs.reduced(first + i), test.type);
    }
  }
  judge.add_exact(expected, {at(output, test, range), expected.size()}, element_bytes(test.type));
}

void judge_natural(const Expectation& what, const void* output, const Range& range, Judge& judge) {
  const Case& test = what.test;
  const Origin origin = test.collective->origin(test, what.rank, range.slot);
  const bool spreads = origin.rank == Origin::kReduced && test.collective->send == Side::kOne;
  // A second hop's blocks may start anywhere.
  const uint64_t margin = spreads ? 2048 : 0;
  const uint64_t from = range.first - std::min(margin, range.first);
  const uint64_t to = std::min(range.first + range.elems + margin, test.count);
  const uint64_t first = static_cast<uint64_t>(origin.slot) * test.count + from;
  Numbers numbers{std::vector<double>(to - from, 0.0), std::vector<double>(to - from, 0.0)};
  if (origin.rank != Origin::kReduced) {
    expect_gathered(what, origin.rank, first, numbers);
  } else {
    expect_reduced(what, spreads ? -1 : what.rank, first, numbers);
    if (spreads) add_second_hop(what, numbers);
  }
  add_output_rounding(what, numbers);
  std::vector<double> actual(range.elems);
  for (uint64_t i = 0; i < range.elems; ++i)
    actual[i] = load(at(output, test, range), i, test.type);
  const uint64_t skipped = range.first - from;
  judge.add(std::span(numbers.expected).subspan(skipped, range.elems), actual,
            std::span(numbers.bound).subspan(skipped, range.elems));
}

}  // namespace

Judge judge_output(const Expectation& what, const void* output) {
  Judge judge;
  const bool exact = what.inputs.kind() == Inputs::Kind::kExact;
  const auto slots = static_cast<int>(what.test.recv_slots(what.rank));
  for (int slot = 0; slot < slots; ++slot) {
    for (uint64_t first = 0; first < what.test.count; first += kChunk) {
      const Range range{slot, first, std::min(kChunk, what.test.count - first)};
      (exact ? judge_exact : judge_natural)(what, output, range, judge);
    }
  }
  return judge;
}

std::vector<uint64_t> replica_hashes(const Case& test, int rank, const void* output) {
  const Replicas replicas = test.collective->replicas;
  if (replicas == Replicas::kNone || test.count == 0) return {};
  const uint64_t slots = replicas == Replicas::kWhole ? 1 : test.recv_slots(rank);
  const uint64_t bytes = test.recv_elems(rank) / slots * element_bytes(test.type);
  std::vector<uint64_t> hashes;
  for (uint64_t i = 0; i < slots; ++i) {
    hashes.push_back(hash_bytes(static_cast<const char*>(output) + i * bytes, bytes));
  }
  return hashes;
}

}  // namespace slimccl::perf
