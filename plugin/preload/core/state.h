// What the overlay keeps for the process and for each thread.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/config.h"
#include "core/entry.h"
#include "core/rule_use.h"
#include "core/table.h"

namespace slimccl::overlay {

class State {
 public:
  static State& instance();  // lives until the process ends

  const Config& settings;
  const Policy policy;
  Table table;
  Counts ended;  // of communicators that are no more
  std::atomic<uint64_t> communicators{0};
  std::atomic<int> paused{0};       // slimcclPause less slimcclResume; above 0 calls are exact
  std::atomic<uint64_t> pauses{0};  // all that there were
  std::atomic<uint64_t> steps{0};   // slimcclStep
  RuleUse rule_use;                 // of the communicators that there were
  std::atomic<bool> forked{false};  // this is a forked child: it only forwards
  std::once_flag announced, watched;
  std::atomic<bool> warned_alone{false};  // see stay_exact()
  std::shared_mutex issuing;              // see RealLink

  // What aborted communicators compressed with. Freeing GPU memory waits for all work of a device,
  // and what an abort leaves there may never end: it is freed when the next communicator is set up.
  std::mutex graves_mutex;
  std::vector<std::shared_ptr<Compressor>> graves;

  std::mutex report_mutex;  // of the file that the report in JSON goes to
  // What ended communicators have for the report in JSON, joined by commas.
  std::mutex kept_mutex;
  std::string kept;
  int kept_count = 0;

  // The entry of a communicator just made. Its standing is still open.
  Entry& begin(const slimccl_nccl* nccl, ncclComm_t comm, int rank, int ranks, std::string name);
  // The entry of any communicator; one whose making we did not see gets it now. Without memory for
  // one: the one that is shared.
  Entry& entry_of(const slimccl_nccl* nccl, ncclComm_t comm) noexcept;
  // The copy of NCCL that made a communicator; `nccl`, the caller's, if that is not known. Takes no
  // lock, so that a forked child may ask.
  [[nodiscard]] const slimccl_nccl* maker_of(const slimccl_nccl* nccl,
                                             ncclComm_t comm) const noexcept;

 private:
  State();
  Entry& first_sight(const slimccl_nccl* nccl, ncclComm_t comm);
  void introduce(Entry& entry, int rank, int ranks, std::string name);
};

// What a thread has begun.
struct ThreadState {
  // What is to be done for a communicator that the real group's end makes; `in_progress`: it is
  // still being made.
  using Making = std::function<ncclResult_t(bool in_progress)>;

  int depth = 0;  // of groups
  std::vector<Making> makings;
  std::vector<std::pair<Entry*, Call>> calls;  // of communicators that check them
  std::vector<Compressed> compressed;          // of the group
  ncclResult_t group_failure = ncclSuccess;    // ours, in a call of the group: it sends nothing
  std::string group_error;
  std::string error;  // of our last failure
  bool ours = false;  // the last failure was ours

  static ThreadState& current() noexcept;
};

// Keeps the text for ncclGetLastError and returns `code`.
ncclResult_t fail(ncclResult_t code, std::string text) noexcept;
// The same of a call that carries data: if it is in a group, the group fails with it.
ncclResult_t fail_call(ncclResult_t code, const std::string& text) noexcept;
// The real NCCL's result, noted as the last failure if it is one.
ncclResult_t note(ncclResult_t result) noexcept;
// The error of a function that this NCCL does not have.
ncclResult_t missing(const slimccl_nccl& nccl, const char* name) noexcept;

// The warning of a failure of ours that the program does not get, if there is memory for it.
void warn_of(std::string_view what, const std::exception& error) noexcept;

// Runs all at once, each on a thread of its own but for one; returns when all have ended. They must
// not throw.
void run_together(const std::vector<std::function<void()>>& tasks);

}  // namespace slimccl::overlay
