// A communicator: ranks that agreed, their transports, executors, and its one-way life: alive,
// failed or revoked, gone.
//
// The caller's threads enter through create, submit and the ends; the rest happens on the engine's
// thread. A failure (a dead peer, a time-out, an abort) is final: it is kept as the asynchronous
// error, all ranks are told, every work under way and every later one ends with it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
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
#include "runtime/signature.h"
#include "runtime/work.h"

namespace slimccl::runtime {

struct Stats {
  uint64_t calls = 0, compressed_calls = 0, transfers = 0;
  uint64_t bytes_between_nodes = 0, bytes_in_node = 0, exact_bytes_between_nodes = 0;
  std::map<std::string_view, uint64_t> calls_by_kind;  // Choice::kind
};

// Scratch of one communicator at most; the same on all ranks, since it bounds the segments.
inline constexpr uint64_t kArenaBytes = uint64_t{256} << 20;

struct Options {
  std::string name;                           // for the log
  const std::atomic<bool>* cancel = nullptr;  // set: create() gives up; outlives the communicator
  int device = -1;                            // the CUDA device that is this rank's; -1: none
  // Called once if all ranks have a device, with Agreement::staging_bytes: gets what calls will
  // need. No rank makes a call before all have returned from it.
  std::function<void(uint64_t bytes)> stage{};
};

// A place in a communicator yet to be made.
struct Membership {
  ncclUniqueId id;
  int ranks, rank;
};

class Communicator final : public Participant, public std::enable_shared_from_this<Communicator> {
 public:
  // Collective. Throws Error; then nothing remains of it.
  static std::shared_ptr<Communicator> create(const Membership& place, const Options& options);
  ~Communicator() override;

  // Decides how a call is carried; paused: exactly. Throws Error for misuse. Nothing if no rank has
  // anything to do.
  [[nodiscard]] std::optional<Operation> decide(const Call& call, bool paused);
  // Never blocks. Throws Error if the communicator takes no more work; then the completion is not
  // touched.
  void submit(Work work);

  // Takes no more work from now on; the completion is done when what was submitted is.
  [[nodiscard]] std::shared_ptr<Completion> finalize();
  // Orderly end: waits for works under way. abort(): at once, the other ranks see it as a failure.
  void destroy();
  void abort();
  // Ends works under way with an error and takes no more; a failure that was is forgotten. This
  // rank can then split or shrink.
  void revoke(const std::string& why);

  // Collective over all ranks: where this rank goes, nothing for one without colour (negative).
  // Splits are numbered in call order; the rest of one blocks, on any thread.
  [[nodiscard]] uint64_t next_split();
  [[nodiscard]] std::optional<Membership> split(uint64_t number, int color, int key,
                                                const std::atomic<bool>* cancel);
  // Collective over the ranks that are not excluded; never blocks. abort: ends works under way, and
  // goes on after a failure.
  [[nodiscard]] Membership shrink(std::span<const int> excluded, bool abort);

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int ranks() const noexcept { return agreement_.topology.ranks(); }
  [[nodiscard]] const Agreement& agreement() const noexcept { return agreement_; }
  // ncclSuccess, or why nothing works any more; any thread.
  [[nodiscard]] ncclResult_t async_error() const noexcept { return async_error_; }
  [[nodiscard]] std::string async_error_text() const;
  [[nodiscard]] Stats stats() const;
  // How a call would be carried, for people; and how long, by the cost model.
  [[nodiscard]] std::string explain(const collectives::Shape& shape, bool paused) const;
  [[nodiscard]] double estimated_seconds(const Work& work) const;

  bool progress() noexcept override;
  bool arm() noexcept override;
  void add_wait_fds(std::vector<int>& fds) const override;

 private:
  using Clock = std::chrono::steady_clock;

  Communicator(Agreement agreement, int rank, std::string name,
               std::unique_ptr<Bootstrap> bootstrap);
  friend class Setup;  // connect.cc: builds one step by step

  void adopt(std::unique_ptr<Router> router);  // makes the executors over it
  [[nodiscard]] collectives::Choice choice_for(const collectives::Shape& shape, bool paused);
  void check_process() const;  // throws in a forked child

  // communicator.cc, on the engine's thread
  bool start_next();
  bool go_on();
  void begin(const Operation& operation);
  void begin_check(const Operation& operation);
  [[nodiscard]] bool checked();
  void count_finished(const Operation& operation);
  [[nodiscard]] bool gate_open();
  void finish_current(ncclResult_t code, const std::string& text);
  static void finish(const Work& work, ncclResult_t code, const std::string& text);
  void end_all(ncclResult_t code, const std::string& text);

  // communicator_failure.cc
  void fail(ncclResult_t code, const std::string& text) noexcept;
  void fail_here(ncclResult_t code, const std::string& text) noexcept;
  void suspect(const RankFailure& failure) noexcept;
  void look_at_bootstrap();
  void look_at_clock();
  void see_failure(const transport::PeerFailure& failure);
  void give_up();
  void look_at_flush();
  [[nodiscard]] std::string doing() const;

  // communicator_life.cc
  [[nodiscard]] uint64_t meeting(uint64_t purpose);
  void check_sound_parent() const;
  void close(const std::function<void(Bootstrap&)>& farewell);
  void report_start() const;
  void report_savings() const;

  const Engine::Lease lease_;
  const Agreement agreement_;
  const int rank_;
  const std::string name_;
  const std::chrono::duration<double> timeout_;
  const double setup_timeout_s_;

  // Engine's thread only.
  std::unique_ptr<Bootstrap> bootstrap_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<ProgressExecutor> executor_;
  std::unique_ptr<TransferExecutor> transfers_;
  std::optional<Work> current_;
  size_t next_collective_ = 0;  // of the work under way; the one before it runs
  bool running_ = false, checking_ = false;
  uint64_t calls_begun_ = 0;
  Signature signature_{};  // of the call that is checked, and what all ranks say
  std::vector<Signature> signatures_;
  collectives::WireBytes sent_before_;  // the operation under way
  // A transport's word that a peer is gone, held until the bootstrap names who was first to go.
  std::optional<RankFailure> suspect_;
  std::string misfit_;  // a message of another size than this rank's call asks for
  std::optional<Clock::time_point> asked_;  // the watchdog asks the others what they do
  Clock::time_point suspect_since_;
  Clock::time_point last_progress_ = Clock::now(), last_bootstrap_look_ = Clock::now();
  bool draining_ = false;  // failed alike on all ranks: what was sent is still to leave

  mutable std::mutex mutex_;  // guards the rest
  std::condition_variable changed_;
  std::deque<Work> queue_;
  size_t unfinished_ = 0;  // works queued or under way
  bool closed_ = false, finalized_ = false, revoked_ = false;
  std::atomic<bool> leaving_{false};  // destroy() waits for what was sent to leave
  std::string async_text_;
  Stats stats_;
  // What was decided for calls of one shape holds for all of them: selection is pure.
  struct Decided {
    collectives::Shape shape;
    bool paused;
    collectives::Choice choice;
  };
  std::vector<Decided> decided_;
  std::map<uint64_t, uint64_t> meetings_;  // how often ranks have met, by purpose
  std::atomic<ncclResult_t> async_error_{ncclSuccess};
};

}  // namespace slimccl::runtime
