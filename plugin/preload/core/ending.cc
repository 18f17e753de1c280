#include "core/ending.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <mutex>

#include "base/log.h"
#include "core/json_report.h"
#include "core/report.h"
#include "core/state.h"

namespace slimccl::overlay {
namespace {

// Where the handler of SIGTERM writes, -1: nowhere; found beforehand, for looking takes locks.
std::atomic<int> handler_fd{-1};

// Reports, then lets the signal do what it would have done.
void on_sigterm(int signal) {
  if (!State::instance().forked) report_in_handler(handler_fd);
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  sigaction(signal, &standard, nullptr);
  raise(signal);  // it comes when this handler returns
}

void on_exit() {
  if (State::instance().forked) return;
  try {
    report_process();
  } catch (...) {  // a report is never worth a failure
  }
}

}  // namespace

void end_with_node(Entry& entry, End how, const std::function<void()>& end_real) {
  const auto compressor = entry.compressor_now();
  if (compressor == nullptr || !compressor->link->has_node()) return end_real();
  if (how == End::kAborted) {
    run_together({end_real, [&] { compressor->leave_node(RealLink::NodeEnd::kAborted); }});
    return;
  }
  compressor->leave_node(RealLink::NodeEnd::kDestroyed);
  end_real();
}

bool begin_end(Entry& entry, End how) noexcept {
  State& state = State::instance();
  if (state.forked || state.table.shared(entry)) return false;
  const bool lingers = how == End::kAborted || entry.joining;
  if (lingers) entry.cancel = true;
  if (const auto compressor = entry.compressor_now()) compressor->link->close();
  return state.table.retire(entry, lingers);
}

void end(Entry& entry, End how) noexcept {
  State& state = State::instance();
  if (entry.background.under_way()) entry.cancel = true;  // nobody waits for its result any more
  try {
    // In a group the real communicator ends with it.
    if (how == End::kAborted || ThreadState::current().depth > 0) {
      const std::lock_guard lock(state.graves_mutex);
      if (auto compressor = entry.compressor_now()) state.graves.push_back(std::move(compressor));
    }
    entry.set_compressor(nullptr);
    const std::lock_guard no_further_exchange(entry.evidence_mutex);
    entry.background.wait();
    const std::lock_guard lock(entry.mutex);  // who was in a meeting gives it up first
    if (entry.star) {
      if (how == End::kAborted) {
        entry.star->abort("its process called ncclCommAbort");
      } else {
        entry.star->leave();
      }
      entry.star.reset();
    }
    if (entry.own_family) runtime::withdraw_id(*entry.own_family);
    entry.own_family.reset();
    state.ended += entry.counts;
    report(entry);
    keep_for_json(entry);
    write_json_report();
  } catch (const std::exception& error) {
    warn_of("a communicator's end: ", error);
  }
  state.table.release(entry);
}

void watch_for_exit() {
  std::call_once(State::instance().watched, [] {
    if (log::enabled(log::Level::kNotice)) handler_fd = log::descriptor();
    std::atexit(on_exit);
    pthread_atfork(nullptr, nullptr, [] { State::instance().forked = true; });
    struct sigaction ours {
    }, before{};
    ours.sa_handler = on_sigterm;
    sigemptyset(&ours.sa_mask);
    // One swap, so that no handler that another thread sets meanwhile is lost.
    if (sigaction(SIGTERM, &ours, &before) == 0 && before.sa_handler != SIG_DFL) {
      sigaction(SIGTERM, &before, nullptr);
    }
  });
}

}  // namespace slimccl::overlay
