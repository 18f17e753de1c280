// Times and checks SlimCCL's collectives. Started by torchrun-style variables or --local N.
// Exit codes: 0 all right, 1 wrong data, 2 a bad flag, 3 the library or the rendezvous failed.
#include <cstdio>
#include <exception>

#include "fork_ranks.h"
#include "options.h"
#include "runner.h"
#include "side_channel.h"
#include "table.h"

namespace slimccl::perf {
namespace {

ncclComm_t make_communicator(SideChannel& channel, const Place& place) {
  ncclUniqueId id{};
  if (place.rank == 0) require(ncclGetUniqueId(&id), "ncclGetUniqueId");
  id = channel.from_root(id);
  ncclComm_t comm = nullptr;
  require(ncclCommInitRank(&comm, place.world, id, place.rank), "ncclCommInitRank");
  return comm;
}

std::vector<Row> run_cases(const Options& options, const Place& place, Runner& runner) {
  std::vector<Row> rows;
  const bool reduces = options.collective != Collective::kAllGather;
  for (const auto type : options.types) {
    const auto reductions = reduces ? options.reductions : std::vector{Reduction::kNone};
    for (const auto reduction : reductions) {
      for (const uint64_t count : options.case_counts(type, place.world)) {
        rows.push_back(runner.run({options.collective, type, reduction, count, place.world}));
        if (place.rank == 0) print_row(rows.back());
      }
    }
  }
  return rows;
}

int run_rank(const Options& options) {
  const Place place = place_from_environment();
  SideChannel channel(place, options.timeout_s);
  ncclComm_t comm = make_communicator(channel, place);
  Runner runner(options, place, channel, comm);
  if (place.rank == 0) print_header(options, runner.nodes());
  const auto rows = run_cases(options, place, runner);
  if (place.rank == 0) {
    print_footer(rows);
    if (!options.json.empty()) write_json(options.json, rows);
  }
  channel.barrier();
  require(ncclCommDestroy(comm), "ncclCommDestroy");
  for (const Row& row : rows) {
    if (row.out_of_place.wrong + row.in_place.wrong > 0) return 1;
  }
  return 0;
}

}  // namespace
}  // namespace slimccl::perf

int main(int argc, char** argv) {
  try {
    int exit_code = 0;
    const auto options = slimccl::perf::parse_options(argc, argv, exit_code);
    if (!options) return exit_code;
    if (options->local > 0) {
      if (const auto code = slimccl::perf::fork_ranks(options->local)) return *code;
    }
    return slimccl::perf::run_rank(*options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "collective_perf: %s\n", error.what());
    return 3;
  }
}
