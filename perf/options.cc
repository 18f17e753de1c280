#include "options.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <map>
#include <sstream>
#include <utility>

#include "elements.h"

namespace slimccl::perf {
namespace {

// Words of the command line and what they mean, in the order in which help names them.
template <class T>
using Choices = std::vector<std::pair<std::string, T>>;

Choices<ncclDataType_t> type_choices() {
  Choices<ncclDataType_t> choices;
  for (int type = 0; type < ncclNumTypes; ++type) {
    choices.emplace_back(kElementTypes[type].name, static_cast<ncclDataType_t>(type));
  }
  return choices;
}

Choices<Reduction> reduction_choices() {
  Choices<Reduction> choices;
  for (const auto each : {Reduction::kSum, Reduction::kProd, Reduction::kMax, Reduction::kMin,
                          Reduction::kAvg, Reduction::kMulSum}) {
    choices.emplace_back(name(each), each);
  }
  return choices;
}

Choices<const Collective*> collective_choices() {
  Choices<const Collective*> choices;
  for (const Collective& each : collectives()) choices.emplace_back(each.name, &each);
  return choices;
}

template <class T>
std::string words(const Choices<T>& choices) {
  std::string all;
  for (const auto& [word, value] : choices) all += (all.empty() ? "" : ", ") + word;
  return all;
}

template <class T>
T choose(const std::string& flag, const std::string& text, const Choices<T>& choices) {
  for (const auto& [word, value] : choices) {
    if (word == text) return value;
  }
  throw CLI::ValidationError(flag, "\"" + text + "\" is not one of " + words(choices));
}

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

// One word, some with commas between, or "all".
template <class T>
void add_list(CLI::App& app, const std::string& flags, Choices<T> choices, std::vector<T>& into,
              const std::string& standard) {
  const std::string help = words(choices) + ", some with commas, or all (" + standard + ")";
  const auto take = [choices = std::move(choices), &into, flags](const std::string& text) {
    into.clear();
    if (text == "all") {
      for (const auto& [word, value] : choices) into.push_back(value);
      return;
    }
    std::istringstream list(text + ",");
    for (std::string word; std::getline(list, word, ',');) {
      into.push_back(choose(flags, word, choices));
    }
  };
  app.add_option_function<std::string>(flags, take, help);
}

template <class T>
void add_number(CLI::App& app, const std::string& flags, T& into, T least, T most,
                const std::string& help) {
  app.add_option(flags, into, help)->check(CLI::Range(least, most));
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

void describe_calls(CLI::App& app, Options& options) {
  add_size(app, "-b,--minbytes", options.min_bytes, "smallest size (32M)");
  add_size(app, "-e,--maxbytes", options.max_bytes, "largest size (32M)");
  add_size(app, "-i,--stepbytes", options.step_bytes, "size step (1M)");
  add_number(app, "-f,--stepfactor", options.factor, 1.0001, 1e6, "size factor, instead of -i");
  add_list(app, "-d,--datatype", type_choices(), options.types, "float");
  add_list(app, "-o,--op", reduction_choices(), options.reductions, "sum");
  add_number(app, "-r,--root", options.root, -1, 1 << 20, "root, -1: each in turn (0)");
  app.add_option("--counts", options.counts, "exactly these counts instead of sizes: 0,1,12345")
      ->delimiter(',')
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_number<uint64_t>(app, "-u,--unalign", options.misalign, 0, 1 << 20,
                       "elements by which buffers miss alignment (0)");
  app.add_option("-R,--local_register", options.registers,
                 "0: plain memory, 1: the library's, registered (0)")
      ->check(CLI::IsMember({"0", "1"}));
}

void describe_measuring(CLI::App& app, Options& options) {
  add_number(app, "-n,--iters", options.iterations, 1, 1000000, "timed iterations (20)");
  add_number(app, "-w,--warmup_iters", options.warmup, 0, 1000000, "warm-up iterations (1)");
  add_number(app, "-m,--agg_iters", options.calls_per_group, 1, 10000,
             "calls in one group; an iteration is one group (1)");
  add_number(app, "-c,--check", options.checks, 0, 1000, "checked iterations; 0: none (1)");
  app.add_option("-z,--blocking", options.blocking,
                 "1: a call waits for its result, 0: timed calls are queued on a stream (1)")
      ->check(CLI::IsMember({"0", "1"}));
  app.add_option("-a,--average", options.time_of,
                 "time of 0: rank 0, 1: average, 2: min, 3: max (1)")
      ->check(CLI::IsMember({"0", "1", "2", "3"}));
  app.add_option("--interface", options.network_interface,
                 "counts the bytes that this network interface of each node sends");
  app.add_option("-J,--json,--output_file", options.json, "rank 0 writes the rows to this file");
}

void describe_ranks(CLI::App& app, Options& options) {
  add_number(app, "-t,--nthreads", options.threads, 1, 512, "threads of each process (1)");
  add_number(app, "-g,--ngpus", options.ranks_per_thread, 1, 512,
             "ranks of each thread, calling in one group (1)");
  add_number(app, "--local", options.local, 1, 512, "forks this many processes on this machine");
  add_number(app, "-T,--timeout", options.timeout_s, 1, 86400,
             "seconds a rank waits for the others (300)");
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
    all.push_back(collective->count_for(bytes, type, ranks));
    const uint64_t next = factor > 0 ? static_cast<uint64_t>(static_cast<double>(bytes) * factor)
                                     : bytes + step_bytes;
    if (next <= bytes) break;
    bytes = next;
  }
  return all;
}

std::optional<Options> parse_options(int argc, char** argv, int& exit_code) {
  Options options;
  CLI::App app("Times and checks a collective; flags and table as in nccl-tests.");
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  std::string collective = collective_of_program(argv[0]);
  if (collective.empty()) {
    app.add_option("collective", collective, words(collective_choices()))->required();
  }
  describe_calls(app, options);
  describe_measuring(app, options);
  describe_ranks(app, options);
  try {
    app.parse(argc, argv);
    options.collective = choose("collective", collective, collective_choices());
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
