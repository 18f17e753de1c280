// Groups, and the last error.
#include <utility>

#include "base/log.h"
#include "core/check.h"
#include "core/hooks.h"
#include "core/state.h"

namespace slimccl::overlay::hooks {
namespace {

// What the outermost end of a group leaves of what the thread had begun.
struct Begun {
  std::vector<ThreadState::Making> makings;
  std::vector<std::pair<Entry*, Call>> calls;
  std::vector<Compressed> compressed;
  ncclResult_t failure = ncclSuccess;  // of one of our calls
  std::string error;
};

// One level less; at the outermost, what was begun.
Begun leave_level(ThreadState& thread) noexcept {
  if (thread.depth > 0) --thread.depth;
  if (thread.depth > 0) return {};
  return {std::exchange(thread.makings, {}), std::exchange(thread.calls, {}),
          std::exchange(thread.compressed, {}), std::exchange(thread.group_failure, ncclSuccess),
          std::exchange(thread.group_error, {})};
}

// All at once: each waits for other ranks, which may be this thread's too.
ncclResult_t make_all(const std::vector<ThreadState::Making>& makings, bool in_progress) {
  std::vector<ncclResult_t> results(makings.size(), ncclSuccess);
  std::vector<std::string> errors(makings.size());
  std::vector<std::function<void()>> tasks;
  for (size_t i = 0; i < makings.size(); ++i) {
    tasks.emplace_back([&, i] {
      try {
        results[i] = makings[i](in_progress);
        if (results[i] != ncclSuccess) errors[i] = ThreadState::current().error;
      } catch (const std::exception& error) {
        log::warn("overlay: a communicator is exact: ", error.what());
      }
    });
  }
  run_together(tasks);
  for (size_t i = 0; i < makings.size(); ++i) {
    if (results[i] != ncclSuccess) return fail(results[i], errors[i]);
  }
  return ncclSuccess;
}

// Part of the group is still on its way, and what is compressed cannot follow it.
ncclResult_t refuse_mixture(const Begun& begun) {
  const char* const text =
      "a group mixes blocking and non-blocking communicators; use one kind, or "
      "SLIMCCL_PROFILE=exact";
  for (const Compressed& one : begun.compressed) one.entry->break_off(ncclInvalidUsage, text);
  return fail(ncclInvalidUsage, text);
}

}  // namespace

ncclResult_t GroupStart(const slimccl_nccl* real) {
  const ncclResult_t result = note(real->GroupStart());
  if (result == ncclSuccess) ++ThreadState::current().depth;
  return result;
}

ncclResult_t GroupEnd(const slimccl_nccl* real) {
  const Begun begun = leave_level(ThreadState::current());
  // What cannot be dropped need not be compared.
  if (real->GroupSimulateEnd != nullptr) {
    ncclResult_t bad = begun.failure;
    if (bad == ncclSuccess && !begun.calls.empty()) bad = check_group(begun.calls);
    if (bad != ncclSuccess) {
      // The real group ends without anything being sent; with null it would end as ever.
      drop_group(*real);
      return begun.failure == ncclSuccess ? bad : fail(bad, begun.error);
    }
  }
  ncclResult_t result = note(real->GroupEnd());
  if (result == ncclSuccess) result = enqueue_all(begun.compressed);
  if (result == ncclInProgress && !begun.compressed.empty()) return refuse_mixture(begun);
  if (begun.makings.empty() || (result != ncclSuccess && result != ncclInProgress)) return result;
  const ncclResult_t ours = make_all(begun.makings, result == ncclInProgress);
  return ours == ncclSuccess ? result : ours;
}

ncclResult_t GroupSimulateEnd(const slimccl_nccl* real, ncclSimInfo_t* info) {
  if (real->GroupSimulateEnd == nullptr) return missing(*real, "GroupSimulateEnd");
  (void)leave_level(ThreadState::current());
  return note(real->GroupSimulateEnd(info));
}

const char* GetLastError(const slimccl_nccl* real, ncclComm_t comm) {
  const ThreadState& thread = ThreadState::current();
  if (thread.ours) return thread.error.c_str();
  return real->GetLastError != nullptr ? real->GetLastError(comm) : "";
}

}  // namespace slimccl::overlay::hooks
