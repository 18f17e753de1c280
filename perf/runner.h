// Runs one case out of place and in place: checks, then times. One thread's side of it; all threads
// of the run call together.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "buffers.h"
#include "checks.h"
#include "options.h"
#include "team.h"
#include "workload.h"

namespace slimccl::perf {

struct Placement {
  bool ran = false;  // false: the collective has no such form
  double time_us = 0;
  uint64_t wrong = 0;
  std::string why;  // of the lowest rank that complains
};

struct Row {
  Case test;
  Placement out_of_place, in_place;
  bool checked = false;
  bool compressed = false;
  std::string codec;               // "q4s", "q8", "q4s+q8" or "exact"
  double bytes_between_nodes = 0;  // one call, all ranks, as the library counts
  double exact_bytes = 0;          // the same call, exact
  double wire_bytes = 0;           // one call, all nodes, as the interfaces count; 0: not asked
  Accuracy accuracy;               // of the checked out-of-place call, all ranks
};

class Runner {
 public:
  Runner(const Options& options, Team& team);
  [[nodiscard]] Row run(const Case& test);

 private:
  // What the members call with.
  struct Seat {
    Seat(const Member& who, const Case& test, const Inputs& inputs, bool in_place,
         const Memory::Style& style)
        : member(who),
          buffers(test, inputs, who.rank, in_place, style),
          op(test.reduction, test.type, inputs.scale(who.rank), who.comm) {}
    const Member& member;
    Buffers buffers;
    Operation op;
  };
  using Seats = std::deque<Seat>;  // they cannot move
  struct Meter {                   // sums over the members
    uint64_t sent, exact, compressed, wire;
  };

  [[nodiscard]] Seats seat(const Case& test, const Inputs& inputs, bool in_place);
  void call(const Case& test, const Seats& seats, int times);
  void settle_codec(Row& row);
  [[nodiscard]] Placement place(Row& row, const Inputs& inputs, bool in_place);
  [[nodiscard]] Placement check(Row& row, const Inputs& inputs, const Seats& seats, bool in_place);
  // Ranks whose output has other bits than its replicas.
  [[nodiscard]] std::vector<int> find_differing(const Case& test, const Seats& seats);
  [[nodiscard]] double time(const Row& row, Seats& seats);
  [[nodiscard]] double combine(double mine);
  [[nodiscard]] Meter read_meter();
  void note_traffic(Row& row, const Meter& before, const Meter& after);

  const Options& options_;
  Team& team_;
  bool counts_wire_;
};

}  // namespace slimccl::perf
