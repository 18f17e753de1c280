#include "codecs/contest.h"

#include <sched.h>

#include <algorithm>
#include <ctime>
#include <numeric>
#include <utility>

namespace slimccl::perf {

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

int pin_to_one_core() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return -1;
  int core = CPU_SETSIZE - 1;
  while (core >= 0 && !CPU_ISSET(core, &allowed)) --core;
  cpu_set_t one;
  CPU_ZERO(&one);
  if (core >= 0) CPU_SET(core, &one);
  return sched_setaffinity(0, sizeof one, &one) == 0 ? core : -1;
}

namespace {

double time_calls(const Contender& contender, uint64_t calls) {
  const double start = thread_seconds();
  for (uint64_t i = 0; i < calls; ++i) contender.call();
  return thread_seconds() - start;
}

uint64_t calls_for(double wanted, double each) {
  return static_cast<uint64_t>(std::max(1.0, wanted / std::max(each, 1e-9)));
}

}  // namespace

Contest::Contest(const Effort& effort, std::vector<Contender> contenders)
    : effort_(effort), contenders_(std::move(contenders)) {
  for (const Contender& contender : contenders_) plans_.push_back(plan(contender));
}

Contest::Plan Contest::plan(const Contender& contender) const {
  contender.call();  // caches, page tables
  const double probe = time_calls(contender, 1);
  const double call_seconds =
      time_calls(contender, calls_for(1e-4, probe)) / static_cast<double>(calls_for(1e-4, probe));
  const uint64_t most = calls_for(effort_.longest_seconds, call_seconds);
  const uint64_t settling = effort_.settle_bytes / contender.moved_bytes;
  const uint64_t timed = effort_.bytes > 0 ? effort_.bytes / contender.moved_bytes
                                           : calls_for(effort_.seconds, call_seconds);
  return {std::clamp<uint64_t>(settling, 1, most), std::clamp<uint64_t>(timed, 1, most)};
}

std::vector<Time> Contest::round() {
  std::vector<size_t> order(contenders_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::shuffle(order.begin(), order.end(), shuffler_);
  std::vector<Time> times(contenders_.size());
  for (const size_t i : order) {
    const auto [settling_calls, timed_calls] = plans_[i];
    time_calls(contenders_[i], settling_calls);
    times[i] = {contenders_[i].name,
                time_calls(contenders_[i], timed_calls) / static_cast<double>(timed_calls)};
  }
  return times;
}

}  // namespace slimccl::perf
