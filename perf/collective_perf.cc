// Times and checks SlimCCL's collectives. Started by torchrun-style variables or --local N.
// Exit codes: 0 all right, 1 wrong data, 2 a bad flag, 3 the library or the rendezvous failed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <thread>

#include "fork_ranks.h"
#include "options.h"
#include "runner.h"
#include "side_channel.h"
#include "table.h"

namespace slimccl::perf {
namespace {

constexpr int kWrongData = 1, kBadFlag = 2, kFailed = 3;

std::vector<int> roots(const Options& options, int ranks) {
  if (!options.collective->has_root) return {-1};
  if (options.root >= 0) return {options.root};
  std::vector<int> all(static_cast<size_t>(ranks));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

std::vector<Row> run_cases(const Options& options, const Team& team, Runner& runner) {
  std::vector<Row> rows;
  const int ranks = team.ranks();
  const bool reduces = options.collective->reduces;
  const auto reductions = reduces ? options.reductions : std::vector{Reduction::kNone};
  for (const auto type : options.types) {
    for (const auto reduction : reductions) {
      for (const int root : roots(options, ranks)) {
        for (const uint64_t count : options.case_counts(type, ranks)) {
          rows.push_back(runner.run({options.collective, type, reduction, root, count, ranks}));
          if (team.leads()) print_row(rows.back());
        }
      }
    }
  }
  return rows;
}

// One thread of all, `place` being its place among them.
int run_team(const Options& options, const Place& place) {
  Team team(options, place);
  Runner runner(options, team);
  if (team.leads()) print_header(options, team.nodes());
  const auto rows = run_cases(options, team, runner);
  if (team.leads()) {
    print_footer(rows);
    if (!options.json.empty()) write_json(options.json, rows);
  }
  team.destroy();
  const auto is_wrong = [](const Row& row) {
    return row.out_of_place.wrong + row.in_place.wrong > 0;
  };
  return std::ranges::any_of(rows, is_wrong) ? kWrongData : 0;
}

int run_process(const Options& options, Place place) {
  if (options.threads > 1 && place.port == 0) place.port = free_port();
  std::vector<int> codes(static_cast<size_t>(options.threads), 0);
  const auto run_thread = [&](int thread) {
    Place own = place;
    own.rank = place.rank * options.threads + thread;
    own.world = place.world * options.threads;
    try {
      codes[static_cast<size_t>(thread)] = run_team(options, own);
    } catch (const std::exception& error) {
      // The other threads may wait for this one; the other processes learn of it by its end.
      std::fprintf(stderr, "collective_perf: %s\n", error.what());
      std::fflush(nullptr);
      std::_Exit(kFailed);
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < options.threads; ++thread) others.emplace_back(run_thread, thread);
  run_thread(0);
  for (std::thread& other : others) other.join();
  return *std::ranges::max_element(codes);
}

bool root_exists(const Options& options, int processes) {
  const int ranks = processes * options.ranks_per_process();
  if (options.root < ranks) return true;
  std::fprintf(stderr, "collective_perf: -r: there is no rank %d among %d ranks\n", options.root,
               ranks);
  return false;
}

int run(const Options& options) {
  const Place place = options.local > 0 ? Place{} : place_from_environment();
  if (!root_exists(options, std::max(options.local, place.world))) return kBadFlag;
  if (options.local == 0) return run_process(options, place);
  if (const auto code = fork_ranks(options.local)) return *code;
  return run_process(options, place_from_environment());
}

}  // namespace
}  // namespace slimccl::perf

int main(int argc, char** argv) {
  try {
    int exit_code = 0;
    const auto options = slimccl::perf::parse_options(argc, argv, exit_code);
    return options ? slimccl::perf::run(*options) : exit_code;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "collective_perf: %s\n", error.what());
    return slimccl::perf::kFailed;
  }
}
