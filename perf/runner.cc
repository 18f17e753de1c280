#include "runner.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <numeric>
#include <stdexcept>

#include "elements.h"
#include "expectation.h"

namespace slimccl::perf {
namespace {

uint64_t sent_bytes(const std::string& network_interface) {
  uint64_t bytes = 0;
  const std::string path = "/sys/class/net/" + network_interface + "/statistics/tx_bytes";
  if (!(std::ifstream(path) >> bytes)) throw std::runtime_error("cannot read " + path);
  return bytes;
}

// The codecs that slimcclExplain's "codecs:" line names for this collective.
std::string codecs_in(const std::string& text, const Collective& collective) {
  const size_t line = text.find("codecs:");
  if (line == std::string::npos) return "?";
  const auto word_after = [&](const char* key) {
    const size_t at = text.find(key, line);
    if (at == std::string::npos) return std::string("?");
    const size_t begin = at + std::strlen(key);
    return text.substr(begin, text.find_first_of(", \n", begin) - begin);
  };
  const std::string reduce = word_after("partial sums ");
  const std::string gather = word_after("gathered ");
  if (!collective.reduces) return gather;
  if (collective.replicas == Replicas::kNone || reduce == gather) return reduce;
  return reduce + "+" + gather;
}

struct Verdict {
  uint64_t wrong;
  char why[200];
};

Verdict verdict_of(uint64_t wrong, const std::string& why) {
  Verdict verdict{why.empty() ? 0 : std::max<uint64_t>(1, wrong), {}};
  why.copy(verdict.why, sizeof verdict.why - 1);
  return verdict;
}

}  // namespace

Runner::Runner(const Options& options, Team& team) : options_(options), team_(team) {
  const int first = team_.members().front().rank;
  const bool first_of_node = team_.nodes()[static_cast<size_t>(first)] == first;
  counts_wire_ = !options_.network_interface.empty() && first_of_node;
}

Runner::Meter Runner::read_meter() {
  team_.channel().barrier();
  Meter meter{};
  for (const Member& member : team_.members()) {
    slimcclStats_t stats{};
    stats.size = sizeof stats;
    require(slimcclGetStats(member.comm, &stats), "slimcclGetStats");
    meter.sent += stats.bytes_between_nodes;
    meter.exact += stats.exact_bytes_between_nodes;
    meter.compressed += stats.compressed_calls;
  }
  meter.wire = counts_wire_ ? sent_bytes(options_.network_interface) : 0;
  team_.channel().barrier();
  return meter;
}

void Runner::note_traffic(Row& row, const Meter& before, const Meter& after) {
  const int groups = options_.warmup + options_.iterations;
  const double calls = groups * options_.calls_per_group;
  const Meter mine{after.sent - before.sent, after.exact - before.exact, 0,
                   after.wire - before.wire};
  for (const Meter& moved : team_.channel().gather(mine)) {
    row.bytes_between_nodes += static_cast<double>(moved.sent) / calls;
    row.exact_bytes += static_cast<double>(moved.exact) / calls;
    row.wire_bytes += static_cast<double>(moved.wire) / calls;
  }
}

Runner::Seats Runner::seat(const Case& test, const Inputs& inputs, bool in_place) {
  Seats seats;
  for (const Member& member : team_.members()) {
    const Memory::Style style{options_.misalign * element_bytes(test.type),
                              options_.registers ? member.comm : nullptr};
    seats.emplace_back(member, test, inputs, in_place, style);
  }
  return seats;
}

// `times` calls of every member, as one group unless it is a single one.
void Runner::call(const Case& test, const Seats& seats, int times) {
  const bool grouped = seats.size() > 1 || times > 1;
  if (grouped) require(ncclGroupStart(), "ncclGroupStart");
  for (int i = 0; i < times; ++i) {
    for (const Seat& seat : seats) {
      require(test.collective->call({test, seat.buffers.send(), seat.buffers.recv(), seat.op.get(),
                                     seat.member.rank, seat.member.comm, seat.member.stream}),
              test.collective->name);
    }
  }
  if (grouped) require(ncclGroupEnd(), test.collective->name);
}

void Runner::settle_codec(Row& row) {
  // A first call tells whether this kind is compressed, and so which inputs can be checked how.
  const Inputs plain(Inputs::Kind::kExact, row.test.type, row.test.reduction, row.test.ranks);
  const Seats seats = seat(row.test, plain, false);
  const Meter before = read_meter();
  call(row.test, seats, 1);
  team_.finish();
  const Meter after = read_meter();
  const auto compressed = team_.channel().gather(after.compressed - before.compressed);
  row.compressed = compressed.front() > 0;
  if (std::ranges::any_of(compressed, [&](uint64_t c) { return (c > 0) != row.compressed; })) {
    throw std::runtime_error("the ranks disagree on whether the call is compressed");
  }
  row.codec = "exact";
  if (!row.compressed) return;
  std::string text(65536, '\0');
  require(slimcclExplain(team_.members().front().comm, row.test.collective->name, row.test.count,
                         row.test.type, text.data(), text.size()),
          "slimcclExplain");
  row.codec = codecs_in(text.c_str(), *row.test.collective);
}

Row Runner::run(const Case& test) {
  Row row{};
  row.test = test;
  row.checked = options_.checks > 0;
  settle_codec(row);
  const auto kind = row.compressed ? Inputs::Kind::kNatural : Inputs::Kind::kExact;
  const Inputs inputs(kind, test.type, test.reduction, test.ranks);
  row.out_of_place = place(row, inputs, false);
  if (test.collective->in_place != InPlace::kNone) row.in_place = place(row, inputs, true);
  return row;
}

Placement Runner::place(Row& row, const Inputs& inputs, bool in_place) {
  const Case& test = row.test;
  Seats seats = seat(test, inputs, in_place);
  Placement result;
  result.ran = true;
  for (int i = 0; i < options_.checks; ++i) {
    for (Seat& each : seats) each.buffers.prepare();
    // In place a second call would have the first one's result as its input.
    call(test, seats, in_place ? 1 : options_.calls_per_group);
    team_.finish();
    const Placement checked = check(row, inputs, seats, in_place);
    result.wrong += checked.wrong;
    if (result.why.empty()) result.why = checked.why;
  }
  for (Seat& each : seats) each.buffers.prepare();
  const Meter before = read_meter();
  result.time_us = time(row, seats);
  const Meter after = read_meter();
  if (!in_place) note_traffic(row, before, after);
  return result;
}

std::vector<int> Runner::find_differing(const Case& test, const Seats& seats) {
  std::vector<uint64_t> mine;
  for (const Seat& each : seats) {
    const auto hashes = replica_hashes(test, each.member.rank, each.buffers.recv());
    mine.insert(mine.end(), hashes.begin(), hashes.end());
  }
  if (mine.empty()) return {};
  const bool foreign = test.collective->replicas == Replicas::kForeignSlots;
  return differing_ranks(team_.channel().gather_list(mine), mine.size() / seats.size(), foreign);
}

Placement Runner::check(Row& row, const Inputs& inputs, const Seats& seats, bool in_place) {
  std::vector<Judge> judges;
  for (const Seat& each : seats) {
    const Expectation what{row.test, inputs, team_.nodes(), each.member.rank, row.codec};
    judges.push_back(judge_output(what, each.buffers.recv()));
  }
  const auto differing = find_differing(row.test, seats);
  std::vector<Verdict> mine;
  for (size_t i = 0; i < seats.size(); ++i) {
    const Accuracy accuracy = judges[i].result();
    std::string why = complaint(accuracy, gain_tolerance(row.codec));
    const auto add = [&](const char* text) {
      why += (why.empty() ? "" : "; ") + std::string(text);
    };
    if (std::ranges::find(differing, seats[i].member.rank) != differing.end()) {
      add("other bits than the other replicas");
    }
    if (const char* damage = seats[i].buffers.damage()) add(damage);
    mine.push_back(verdict_of(accuracy.wrong, why));
  }
  const auto verdicts = team_.channel().gather_list(mine);
  Placement result;
  for (size_t rank = 0; rank < verdicts.size(); ++rank) {
    result.wrong += verdicts[rank].wrong;
    if (verdicts[rank].wrong > 0 && result.why.empty()) {
      result.why = "rank " + std::to_string(rank) + ": " + verdicts[rank].why;
    }
  }
  Judge all;
  for (const Judge& judge : team_.channel().gather_list(judges)) all.add(judge);
  if (!in_place) row.accuracy = all.result();
  return result;
}

// Microseconds of one call.
double Runner::time(const Row& row, Seats& seats) {
  using Clock = std::chrono::steady_clock;
  std::chrono::duration<double, std::micro> spent{0};
  const int groups = options_.warmup + options_.iterations;
  Clock::time_point start;
  for (int i = 0; i < groups; ++i) {
    // Back to the first data, or repeated sums in place would grow without end.
    if (options_.blocking) {
      for (Seat& each : seats) each.buffers.restore();
    }
    if (i == options_.warmup) team_.finish();
    if (i == 0 || i == options_.warmup) team_.channel().barrier();
    if (i <= options_.warmup || options_.blocking) start = Clock::now();
    call(row.test, seats, options_.calls_per_group);
    if (i >= options_.warmup && options_.blocking) spent += Clock::now() - start;
  }
  if (!options_.blocking) {
    team_.finish();
    spent = Clock::now() - start;
  }
  return combine(spent.count() / options_.iterations / options_.calls_per_group);
}

double Runner::combine(double mine) {
  const auto all = team_.channel().gather(mine);
  switch (options_.time_of) {
    case TimeOf::kRank0:
      return all.front();
    case TimeOf::kMin:
      return *std::ranges::min_element(all);
    case TimeOf::kMax:
      return *std::ranges::max_element(all);
    case TimeOf::kAverage:
      break;
  }
  return std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
}

}  // namespace slimccl::perf
