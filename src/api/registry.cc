#include "api/registry.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "base/error.h"

namespace slimccl::api {
namespace {

struct Registry {
  std::mutex mutex;  // a fork waits for it: the child must be able to ask
  std::unordered_map<uintptr_t, std::shared_ptr<Comm>> entries;
  uintptr_t next = 0;
};

Registry& registry() {
  // Never destroyed: handles may be used until the process is gone.
  static auto* const value = [] {
    pthread_atfork([] { registry().mutex.lock(); }, [] { registry().mutex.unlock(); },
                   [] { registry().mutex.unlock(); });
    return new Registry;
  }();
  return *value;
}

// Above every page that could be mapped low, and odd in its steps only by 16: looks like a pointer,
// is none.
constexpr uintptr_t kFirstHandle = 0x51000000;

bool is_done(const std::shared_ptr<runtime::Completion>& each) { return each->done(); }

[[noreturn]] void unknown(uintptr_t handle) {
  if (handle == 0) throw Error(ncclInvalidArgument, "the communicator is null");
  throw Error(ncclInvalidArgument,
              concat("0x", std::hex, handle,
                     " is no living communicator: it was destroyed, aborted, or never made here"));
}

}  // namespace

bool Comm::made_here() const noexcept { return process_ == getpid(); }

Comm::~Comm() {
  cancelled_ = true;
  join_aside();
}

std::shared_ptr<runtime::Communicator> Comm::communicator() const {
  const std::lock_guard lock(mutex_);
  if (communicator_) return communicator_;
  check(job_ && job_->done(), ncclInvalidArgument,
        "this communicator is still being made: poll ncclCommGetAsyncError until it says "
        "ncclSuccess, or leave the group that makes it");
  job_->check_success();
  throw Error(ncclInvalidArgument, "this communicator could not be made");
}

void Comm::set_communicator(std::shared_ptr<runtime::Communicator> communicator) {
  {
    const std::lock_guard lock(mutex_);
    if (!cancelled_) {
      communicator_ = std::move(communicator);
      return;
    }
  }
  communicator->abort();  // whoever cancelled came too early to find it
  throw Error(ncclInvalidUsage, "its process called ncclCommAbort while it was being set up");
}

ncclResult_t Comm::state(std::string& text) const {
  const std::lock_guard lock(mutex_);
  if (job_ ? !job_->done() : !communicator_) return ncclInProgress;
  if (!std::ranges::all_of(pending_, is_done)) return ncclInProgress;
  if (communicator_ && communicator_->async_error() != ncclSuccess) {
    text = communicator_->async_error_text();
    return communicator_->async_error();
  }
  if (job_ && job_->code() != ncclSuccess) {
    text = job_->text();
    return job_->code();
  }
  // A revoke leaves a sound communicator, and calls that its owner still polls for.
  const auto failed =
      std::ranges::find_if(pending_, [](const auto& each) { return each->code() != ncclSuccess; });
  if (failed == pending_.end()) return ncclSuccess;
  text = (*failed)->text();
  return (*failed)->code();
}

void Comm::watch(std::shared_ptr<runtime::Completion> pending) {
  const std::lock_guard lock(mutex_);
  std::erase_if(pending_, is_done);
  pending_.push_back(std::move(pending));
}

void Comm::run_aside(const std::function<void()>& job) {
  join_aside();
  const auto done = std::make_shared<runtime::Completion>(1);
  const std::lock_guard lock(mutex_);
  job_ = done;
  try {
    aside_ = std::thread([done, job] {
      try {
        job();
        done->finish_part(ncclSuccess, "");
      } catch (const Error& error) {
        done->finish_part(error.code(), error.what());
      } catch (const std::exception& error) {
        done->finish_part(ncclInternalError, error.what());
      }
    });
  } catch (const std::exception& error) {
    done->finish_part(ncclSystemError, concat("cannot start a thread: ", error.what()));
  }
}

void Comm::destroy() {
  {
    const std::lock_guard lock(mutex_);
    const bool never_was = !communicator_ && job_ && job_->done();
    if (never_was) return;
  }
  communicator()->destroy();
}

void Comm::abort() {
  cancelled_ = true;
  join_aside();
  std::unique_lock lock(mutex_);
  const auto communicator = communicator_;
  lock.unlock();
  if (communicator) communicator->abort();
}

void Comm::join_aside() {
  std::thread aside;
  {
    const std::lock_guard lock(mutex_);
    aside = std::move(aside_);
  }
  if (aside.joinable()) aside.join();
}

void* Comm::add_registration() {
  const std::lock_guard lock(mutex_);
  void* const registration = reinterpret_cast<void*>(16 * ++last_registration_);
  registrations_.insert(registration);
  return registration;
}

void Comm::remove_registration(void* registration) {
  const std::lock_guard lock(mutex_);
  check(registrations_.erase(registration) == 1, ncclInvalidArgument, registration,
        " is no handle that ncclCommRegister gave for this communicator, or was given back before");
}

ncclComm_t add(std::shared_ptr<Comm> comm) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const uintptr_t handle = kFirstHandle + 16 * ++all.next;
  all.entries[handle] = std::move(comm);
  return reinterpret_cast<ncclComm_t>(handle);
}

std::shared_ptr<Comm> find(ncclComm_t comm) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto handle = reinterpret_cast<uintptr_t>(comm);
  const auto found = all.entries.find(handle);
  if (found == all.entries.end()) unknown(handle);
  // Before anything of it is locked: the parent's threads, gone here, may have held the locks.
  check(found->second->made_here(), ncclInvalidUsage,
        "this communicator was made before a fork: only the parent process can use it");
  return found->second;
}

void forget(ncclComm_t comm) noexcept {
  std::shared_ptr<Comm> last;  // its end may wait for a thread: only once the lock is gone
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = all.entries.find(reinterpret_cast<uintptr_t>(comm));
  if (found == all.entries.end()) return;
  last = std::move(found->second);
  all.entries.erase(found);
}

}  // namespace slimccl::api
