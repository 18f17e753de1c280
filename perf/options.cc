#include "options.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <map>

namespace slimccl::perf {
namespace {

const std::map<std::string, std::vector<ncclDataType_t>> kTypes = {
    {"float", {ncclFloat32}},
    {"half", {ncclFloat16}},
    {"bfloat16", {ncclBfloat16}},
    {"all", {ncclFloat32, ncclFloat16, ncclBfloat16}}};
const std::map<std::string, std::vector<Reduction>> kReductions = {
    {"sum", {Reduction::kSum}},
    {"avg", {Reduction::kAvg}},
    {"mulsum", {Reduction::kMulSum}},
    {"all", {Reduction::kSum, Reduction::kAvg, Reduction::kMulSum}}};

// "64K" and the like; the suffixes are binary.
uint64_t parse_size(const std::string& text) {
  size_t used = 0;
  double value = -1;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string suffix = used == 0 ? "?" : text.substr(used);
  const std::map<std::string, double> factors = {{"", 1},       {"K", 0x1p10}, {"M", 0x1p20},
                                                 {"G", 0x1p30}, {"k", 0x1p10}, {"m", 0x1p20},
                                                 {"g", 0x1p30}};
  const auto factor = factors.find(suffix);
  if (factor == factors.end() || !(value >= 0) || value * factor->second > 0x1p45) {
    throw CLI::ValidationError("\"" + text + "\" is no size; write 4096, 64K, 32M or 2G");
  }
  return static_cast<uint64_t>(value * factor->second);
}

template <class T>
void add_choice(CLI::App& app, const std::string& flags, const std::map<std::string, T>& choices,
                T& into, const std::string& help) {
  app.add_option_function<std::string>(
      flags,
      [&choices, &into, flags](const std::string& text) {
        const auto found = choices.find(text);
        if (found != choices.end()) {
          into = found->second;
          return;
        }
        std::string known;
        for (const auto& [word, value] : choices) known += (known.empty() ? "" : ", ") + word;
        throw CLI::ValidationError(flags, "\"" + text + "\" is not one of " + known);
      },
      help);
}

void add_size(CLI::App& app, const std::string& flags, uint64_t& into, const std::string& help) {
  app.add_option_function<std::string>(
      flags,
      [&into, flags](const std::string& text) {
        try {
          into = parse_size(text);
        } catch (const CLI::ValidationError& error) {
          throw CLI::ValidationError(flags, error.what());
        }
      },
      help);
}

void describe(CLI::App& app, Options& options) {
  add_size(app, "-b,--minbytes", options.min_bytes, "smallest size (32M)");
  add_size(app, "-e,--maxbytes", options.max_bytes, "largest size (32M)");
  add_size(app, "-i,--stepbytes", options.step_bytes, "size step (1M)");
  app.add_option("-f,--stepfactor", options.factor, "size factor, instead of -i")
      ->check(CLI::Range(1.0001, 1e6));
  app.add_option("-n,--iters", options.iterations, "timed iterations (20)")
      ->check(CLI::Range(1, 1000000));
  app.add_option("-w,--warmup_iters", options.warmup, "warm-up iterations (1)")
      ->check(CLI::Range(0, 1000000));
  app.add_option("-c,--check", options.checks, "checked iterations; 0: none (1)")
      ->check(CLI::Range(0, 1000));
  add_choice(app, "-d,--datatype", kTypes, options.types, "float, half, bfloat16 or all (float)");
  add_choice(app, "-o,--op", kReductions, options.reductions, "sum, avg, mulsum or all (sum)");
  app.add_option("--counts", options.counts, "exactly these counts instead of sizes: 0,1,12345")
      ->delimiter(',');
  app.add_option("--local", options.local, "forks this many ranks on this machine")
      ->check(CLI::Range(1, 512));
  app.add_option("--interface", options.network_interface,
                 "counts the bytes that this network interface of each node sends");
  app.add_option("--json", options.json, "rank 0 writes the rows to this file");
  app.add_option("--timeout", options.timeout_s, "seconds a rank waits for the others (300)")
      ->check(CLI::Range(1, 86400));
}

// "all_gather_perf" names its collective itself.
std::string collective_of_program(const std::string& path) {
  const std::string file = path.substr(path.rfind('/') + 1);
  const size_t end = file.rfind("_perf");
  return end == std::string::npos || file == "collective_perf" ? "" : file.substr(0, end);
}

}  // namespace

std::vector<uint64_t> Options::case_counts(ncclDataType_t type, int ranks) const {
  if (!counts.empty()) return counts;
  std::vector<uint64_t> all;
  for (uint64_t bytes = min_bytes; bytes <= max_bytes;) {
    all.push_back(count_for(collective, bytes, type, ranks));
    const uint64_t next = factor > 0 ? static_cast<uint64_t>(static_cast<double>(bytes) * factor)
                                     : bytes + step_bytes;
    if (next <= bytes) break;
    bytes = next;
  }
  return all;
}

std::optional<Options> parse_options(int argc, char** argv, int& exit_code) {
  Options options;
  const std::map<std::string, Collective> collectives = {
      {"all_gather", Collective::kAllGather},
      {"reduce_scatter", Collective::kReduceScatter},
      {"all_reduce", Collective::kAllReduce}};
  CLI::App app("Times and checks a collective; flags and table as in nccl-tests.");
  describe(app, options);
  const std::string alias = collective_of_program(argv[0]);
  if (alias.empty()) {
    add_choice(app, "collective", collectives, options.collective,
               "all_gather, reduce_scatter or all_reduce");
    app.get_option("collective")->required();
  } else if (collectives.contains(alias)) {
    options.collective = collectives.at(alias);
  }
  try {
    app.parse(argc, argv);
    if (options.min_bytes > options.max_bytes) {
      throw CLI::ValidationError("-b", "the smallest size is above the largest, -e");
    }
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error) == 0 ? 0 : 2;
    return std::nullopt;
  }
  return options;
}

}  // namespace slimccl::perf
