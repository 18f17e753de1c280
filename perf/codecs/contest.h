// Times things that do the same work beside each other, so that their ratios can be trusted on a
// machine whose speed drifts: one round times every contender once, in a new order. One thread, and
// its own CPU time counts: what others do on the core is not charged to whoever was running.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace slimccl::perf {

struct Contender {
  std::string name;
  uint64_t moved_bytes;  // by one call
  std::function<void()> call;
};

struct Time {
  std::string name;
  double seconds;  // one call's
};

// How much one contender does in one round.
struct Effort {
  double seconds;          // at least so long, unless `bytes` are reached
  uint64_t settle_bytes;   // moved before the clock starts: the last contender's traces are gone
  uint64_t bytes;          // moved while it runs; 0: only the time counts
  double longest_seconds;  // of settling and of timing: for very slow contenders
};

class Contest {
 public:
  Contest(const Effort& effort, std::vector<Contender> contenders);

  [[nodiscard]] std::vector<Time> round();

 private:
  struct Plan {
    uint64_t settling_calls, timed_calls;
  };
  [[nodiscard]] Plan plan(const Contender& contender) const;

  Effort effort_;
  std::vector<Contender> contenders_;
  std::vector<Plan> plans_;
  std::mt19937 shuffler_{1};
};

// Seconds that this thread has run.
[[nodiscard]] double thread_seconds();

// Keeps this thread on one of the cores it may use, and returns which; -1 if the system refuses.
int pin_to_one_core();

}  // namespace slimccl::perf
