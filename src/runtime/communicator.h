// A communicator: ranks that agreed, their transports, an executor, and its one-way life: alive,
// failed, gone.
//
// The caller's thread enters through create, run, destroy and abort; the rest happens on the
// engine's thread. A failure (a dead peer, a time-out, an abort) is final: it is kept as the
// asynchronous error, all ranks are told, every operation under way and every later one ends with
// it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/config.h"
#include "runtime/agreement.h"
#include "runtime/bootstrap.h"
#include "runtime/engine.h"
#include "runtime/executor.h"
#include "runtime/router.h"

namespace slimccl::runtime {

struct Stats {
  uint64_t calls = 0, compressed_calls = 0;
  uint64_t bytes_between_nodes = 0, bytes_in_node = 0, exact_bytes_between_nodes = 0;
  std::map<std::string_view, uint64_t> calls_by_kind;  // Choice::kind
};

// One call as the API hands it over: checked, but not yet decided.
struct Call {
  collectives::Collective op;
  ncclDataType_t type;
  uint64_t count;
  collectives::Scaling scaling;
  float scale;
  const void* input;
  void* output;
};

class Communicator final : public Participant, public std::enable_shared_from_this<Communicator> {
 public:
  // Collective. Throws Error; then nothing remains of it.
  static std::shared_ptr<Communicator> create(const ncclUniqueId& id, int ranks, int rank);
  ~Communicator() override = default;

  // Blocks until the result is there. Throws Error: misuse at once, a failure of the communicator
  // when it happens.
  void run(const Call& call);
  // Orderly end: waits for operations under way. abort(): at once, the other ranks see it as a
  // failure.
  void destroy();
  void abort();

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int ranks() const noexcept { return agreement_.topology.ranks(); }
  [[nodiscard]] const Agreement& agreement() const noexcept { return agreement_; }
  // ncclSuccess, or why nothing works any more; any thread.
  [[nodiscard]] ncclResult_t async_error() const noexcept { return async_error_; }
  [[nodiscard]] std::string async_error_text() const;
  [[nodiscard]] Stats stats() const;
  // How a call would be carried, for people.
  [[nodiscard]] std::string explain(const collectives::Shape& shape) const;

  bool progress() noexcept override;
  bool arm() noexcept override;
  void add_wait_fds(std::vector<int>& fds) const override;

 private:
  using Clock = std::chrono::steady_clock;

  // The caller waits on one of these.
  struct Ticket {
    Operation operation;
    bool done = false;
    ncclResult_t code = ncclSuccess;
    std::string message;
  };

  Communicator(Agreement agreement, int rank, std::unique_ptr<Bootstrap> bootstrap);
  friend class Setup;  // connect.cc: builds one step by step

  void adopt(std::unique_ptr<Router> router);  // makes the executor over it
  [[nodiscard]] Operation decide(const Call& call);
  [[nodiscard]] collectives::Choice choice_for(const collectives::Shape& shape);
  bool start_next();
  void count_finished(const Operation& operation);
  void finish_current(ncclResult_t code, const std::string& message);
  void fail(ncclResult_t code, const std::string& text) noexcept;
  void fail_here(ncclResult_t code, const std::string& text) noexcept;
  void suspect(const RankFailure& failure) noexcept;
  void look_at_bootstrap();
  void look_at_clock();
  void look_at_flush();
  void check_process() const;  // throws in a forked child
  void close(const std::function<void(Bootstrap&)>& farewell);
  void report_start() const;
  void report_savings() const;

  const Engine::Lease lease_;
  const Agreement agreement_;
  const int rank_;
  const std::chrono::duration<double> timeout_;

  // Engine's thread only; current_ changes under mutex_, for those who wait.
  std::unique_ptr<Bootstrap> bootstrap_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<ProgressExecutor> executor_;
  std::shared_ptr<Ticket> current_;
  collectives::WireBytes sent_before_;  // the call under way
  // A transport's word that a peer is gone, held until the bootstrap names who was first to go.
  std::optional<RankFailure> suspect_;
  Clock::time_point suspect_since_;
  Clock::time_point last_progress_ = Clock::now(), last_bootstrap_look_ = Clock::now();

  mutable std::mutex mutex_;  // guards the rest
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Ticket>> queue_;
  bool closed_ = false;
  std::atomic<bool> leaving_{false};  // destroy() waits for what was sent to leave
  std::string async_text_;
  Stats stats_;
  // What was decided for calls of one shape holds for all of them: selection is pure.
  std::vector<std::pair<collectives::Shape, collectives::Choice>> decided_;
  std::atomic<ncclResult_t> async_error_{ncclSuccess};
};

}  // namespace slimccl::runtime
