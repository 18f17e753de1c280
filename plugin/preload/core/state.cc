#include "core/state.h"

#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "core/background.h"
#include "core/ending.h"
#include "core/report.h"

namespace slimccl::overlay {

State& State::instance() {
  static State& self = *new State;
  return self;
}

State::State() : settings(config()), policy(policy_from(settings)) {}

Entry& State::begin(const slimccl_nccl* nccl, ncclComm_t comm, int rank, int ranks,
                    std::string name) {
  // One that ended where we did not see it.
  Entry* old = table.find(comm);
  if (old != nullptr && begin_end(*old, End::kForgotten)) end(*old, End::kForgotten);
  Entry& entry = table.insert(comm, nccl);
  if (!table.shared(entry)) introduce(entry, rank, ranks, std::move(name));
  return entry;
}

void State::introduce(Entry& entry, int rank, int ranks, std::string name) {
  entry.rank = rank;
  entry.ranks = ranks;
  entry.number = ++communicators;
  const std::lock_guard lock(entry.mutex);
  entry.name = std::move(name);
  announce_process(*entry.nccl.load());
}

Entry& State::entry_of(const slimccl_nccl* nccl, ncclComm_t comm) noexcept {
  if (Entry* entry = table.find(comm); entry != nullptr) [[likely]]
    return *entry;
  try {
    return first_sight(nccl, comm);
  } catch (const std::exception&) {
    return table.overflow();
  }
}

const slimccl_nccl* State::maker_of(const slimccl_nccl* nccl, ncclComm_t comm) const noexcept {
  const Entry* entry = comm == nullptr ? nullptr : table.find(comm);
  const slimccl_nccl* maker = entry == nullptr ? nullptr : entry->nccl.load();
  return maker == nullptr ? nccl : maker;
}

Entry& State::first_sight(const slimccl_nccl* nccl, ncclComm_t comm) {
  const auto [entry, fresh] = table.find_or_insert(comm, nccl);
  if (!fresh) return *entry;
  entry->standing = Reason::kUnseen;
  int rank = -1, ranks = 0;
  if (nccl->CommUserRank != nullptr) (void)nccl->CommUserRank(comm, &rank);
  if (nccl->CommCount != nullptr) (void)nccl->CommCount(comm, &ranks);
  introduce(*entry, rank, ranks, "");
  log::info("overlay: a communicator of ", ranks, " ranks is exact: ", text(Reason::kUnseen));
  return *entry;
}

ThreadState& ThreadState::current() noexcept {
  static thread_local ThreadState self;
  return self;
}

ncclResult_t fail(ncclResult_t code, std::string text) noexcept {
  ThreadState& thread = ThreadState::current();
  thread.error = std::move(text);
  thread.ours = true;
  return code;
}

ncclResult_t fail_call(ncclResult_t code, const std::string& text) noexcept {
  ThreadState& thread = ThreadState::current();
  if (thread.depth > 0 && thread.group_failure == ncclSuccess) {
    thread.group_failure = code;
    thread.group_error = text;
  }
  return fail(code, text);
}

ncclResult_t note(ncclResult_t result) noexcept {
  if (result != ncclSuccess && result != ncclInProgress) [[unlikely]]
    ThreadState::current().ours = false;
  return result;
}

ncclResult_t missing(const slimccl_nccl& nccl, const char* name) noexcept {
  try {
    return fail(ncclInvalidUsage, concat("the real NCCL (", nccl.path, ") has no nccl", name));
  } catch (const std::exception&) {  // no memory for the text
    return fail(ncclInvalidUsage, "");
  }
}

void warn_of(std::string_view what, const std::exception& error) noexcept {
  try {
    log::warn("overlay: ", what, error.what());
  } catch (const std::exception&) {  // no memory even for the line
  }
}

void run_together(const std::vector<std::function<void()>>& tasks) {
  std::vector<std::thread> threads;
  size_t begun = 1;
  try {
    for (; begun < tasks.size(); ++begun) threads.push_back(quiet_thread(tasks[begun]));
  } catch (const std::exception& error) {
    warn_of("cannot start a thread: ", error);
  }
  if (!tasks.empty()) tasks.front()();
  for (; begun < tasks.size(); ++begun) tasks[begun]();  // one after the other, then
  for (std::thread& thread : threads) thread.join();
}

}  // namespace slimccl::overlay
