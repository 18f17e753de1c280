// What a rank must find in its output, element by element, and how far off it may be.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "checks.h"
#include "workload.h"

namespace slimccl::perf {

struct Expectation {
  const Case& test;
  const Inputs& inputs;
  const std::vector<int>& node_of;  // by rank
  int rank;
  std::string codec;  // as in Row
};

// Compares the whole output: bit by bit if the inputs are exact ones.
[[nodiscard]] Judge judge_output(const Expectation& expectation, const void* output);

// One hash per slot or of the whole output, as the collective makes replicas; empty: it makes none.
[[nodiscard]] std::vector<uint64_t> replica_hashes(const Case& test, int rank, const void* output);

}  // namespace slimccl::perf
