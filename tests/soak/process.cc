#include "soak/process.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace soak {

using std::chrono::duration;
using std::chrono::milliseconds;

Process::Process(const Options& given)
    : options(given), notes_(static_cast<size_t>(given.threads)), watchdog_([this] { loop(); }) {}

Process::~Process() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  changed_.notify_all();
  watchdog_.join();
}

void Process::watch(ncclComm_t comm) {
  const std::lock_guard lock(mutex_);
  watched_.insert(comm);
}

void Process::forget(ncclComm_t comm) {
  const std::lock_guard lock(mutex_);
  watched_.erase(comm);
}

void Process::note(int thread, const std::string& call) {
  const std::lock_guard lock(mutex_);
  notes_[static_cast<size_t>(thread)] = {call, Clock::now()};
}

std::string Process::last_call(int thread) const {
  return "seed " + std::to_string(options.seed) + ", rank " +
         std::to_string(options.process * options.threads + thread) + ", " +
         notes_[static_cast<size_t>(thread)].call;
}

void Process::fail(int thread, const std::string& why) {
  const std::lock_guard lock(mutex_);
  fprintf(stderr, "FAILED: %s: %s\n", last_call(thread).c_str(), why.c_str());
  fflush(stderr);
  std::_Exit(1);
}

void Process::loop() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, milliseconds(3), [&] { return done_; })) return;
    }
    look_at_errors();
    look_at_clock();
  }
}

void Process::look_at_errors() {
  std::set<ncclComm_t> watched;
  {
    const std::lock_guard lock(mutex_);
    watched = watched_;
  }
  for (const ncclComm_t comm : watched) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
    if (asked == ncclSuccess && (state == ncclSuccess || state == ncclInProgress)) continue;
    const std::string text = ncclGetLastError(comm);
    const std::lock_guard lock(mutex_);
    if (!watched_.contains(comm)) continue;
    tell_calls("meanwhile");
    fprintf(stderr, "FAILED: the watchdog asked (result %d) and was told %d: %s\n", asked, state,
            text.c_str());
    std::_Exit(1);
  }
}

void Process::tell_calls(const char* what) const {
  for (int thread = 0; thread < options.threads; ++thread) {
    const duration<double> age = Clock::now() - notes_[static_cast<size_t>(thread)].since;
    fprintf(stderr, "%s: %s (for %.0f s)\n", what, last_call(thread).c_str(), age.count());
  }
  fflush(stderr);
}

// Where this thread did not run, nobody did: a virtual machine stands still at times, its clock
// does not.
void Process::forgive_standstill() {
  const auto gap = Clock::now() - std::exchange(last_look_, Clock::now());
  if (gap < std::chrono::seconds(1)) return;
  for (Note& note : notes_) note.since += gap;
}

// The first process that finds a hang ends all others: so each says half-way where it stands.
void Process::look_at_clock() {
  const std::lock_guard lock(mutex_);
  forgive_standstill();
  double oldest = 0;
  for (const Note& note : notes_)
    oldest = std::max(oldest, duration<double>(Clock::now() - note.since).count());
  const bool late = oldest > options.hang_s / 2;
  if (late && !told_late_) tell_calls("waits");
  told_late_ = late;
  if (oldest <= options.hang_s) return;
  tell_calls("FAILED: hangs");
  std::_Exit(9);
}

void Process::hand_over(int team, std::vector<ncclComm_t> comms) {
  const std::lock_guard lock(mutex_);
  handed_[team] = std::move(comms);
  changed_.notify_all();
}

ncclComm_t Process::take(int team, size_t index) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return handed_.contains(team); });
  return handed_[team][index];
}

std::string Process::path(int team) const { return options.folder + "/id." + std::to_string(team); }

void Process::publish(int team, const ncclUniqueId& id) {
  const std::string partial = path(team) + ".part";
  FILE* const file = fopen(partial.c_str(), "wb");
  const bool written = file != nullptr && fwrite(&id, sizeof id, 1, file) == 1;
  if (!written || fclose(file) != 0 || rename(partial.c_str(), path(team).c_str()) != 0) {
    fprintf(stderr, "FAILED: cannot write %s\n", partial.c_str());
    std::_Exit(1);
  }
}

ncclUniqueId Process::await(int team) {
  ncclUniqueId id;
  while (true) {
    FILE* const file = fopen(path(team).c_str(), "rb");
    const bool is_there = file != nullptr && fread(&id, sizeof id, 1, file) == 1;
    if (file != nullptr) fclose(file);
    if (is_there) return id;
    usleep(500);
  }
}

void Context::expect_done(ncclResult_t result, const std::vector<ncclComm_t>& comms) {
  if (result == ncclInProgress) {
    result = ncclSuccess;
    for (const ncclComm_t comm : comms) {
      ncclResult_t state = ncclInProgress;
      while (state == ncclInProgress) {
        const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
        if (asked != ncclSuccess) state = asked;
        if (state == ncclInProgress) usleep(20);
      }
      if (state != ncclSuccess) result = state;
    }
  }
  if (result != ncclSuccess)
    fail("result " + std::to_string(result) + ": " + ncclGetLastError(nullptr));
}

}  // namespace soak
