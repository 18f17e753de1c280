// The command line: nccl-tests' short flags with its meanings, and a few of our own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "collectives.h"

namespace slimccl::perf {

enum class TimeOf { kRank0, kAverage, kMin, kMax };

struct Options {
  const Collective* collective = nullptr;
  uint64_t min_bytes = 32u << 20;
  uint64_t max_bytes = 32u << 20;
  double factor = 0;  // 0: by step
  uint64_t step_bytes = 1u << 20;
  int iterations = 20;
  int warmup = 1;
  int checks = 1;
  int calls_per_group = 1;
  int threads = 1;           // of each process
  int ranks_per_thread = 1;  // they call in one group
  bool blocking = true;      // false: the timed calls are queued on a stream
  TimeOf time_of = TimeOf::kAverage;
  uint64_t misalign = 0;  // elements
  bool registers = false;
  std::vector<ncclDataType_t> types = {ncclFloat32};
  std::vector<Reduction> reductions = {Reduction::kSum};
  int root = 0;                   // -1: each in turn
  std::vector<uint64_t> counts;   // instead of sizes: exactly these counts, odd ones too
  int local = 0;                  // forked processes; 0: they come from the environment
  std::string network_interface;  // whose tx_bytes are counted
  std::string json;
  int timeout_s = 300;

  [[nodiscard]] int ranks_per_process() const { return threads * ranks_per_thread; }
  [[nodiscard]] std::vector<uint64_t> case_counts(ncclDataType_t type, int ranks) const;
};

// Null after the exit code has been settled: 0 for --help, 2 for a bad flag, which stderr names.
[[nodiscard]] std::optional<Options> parse_options(int argc, char** argv, int& exit_code);

}  // namespace slimccl::perf
