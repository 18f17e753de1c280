#include "core/background.h"

#include <pthread.h>

#include <chrono>
#include <csignal>
#include <utility>

#include "base/error.h"

namespace slimccl::overlay {
namespace {

// A thread inherits the mask of the moment it is made in.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

std::thread quiet_thread(const std::function<void()>& task) {
  const SignalsBlocked blocked;
  return std::thread(task);
}

void Background::begin(runtime::Bootstrap& star, Bytes mine) {
  constexpr double kAsLongAsTheyLike = 1e9;  // seconds
  const std::lock_guard lock(mutex_);
  ensure(!thread_.joinable(), "two exchanges of one communicator at once");
  has_ended_ = false;
  bytes_.clear();
  failure_.clear();
  thread_ = quiet_thread([this, &star, mine = std::move(mine)] {
    std::vector<Bytes> bytes;
    std::string failure;
    try {
      bytes = star.all_gather(mine, kAsLongAsTheyLike);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    const std::lock_guard result(result_mutex_);
    bytes_ = std::move(bytes);
    failure_ = std::move(failure);
    has_ended_ = true;
    ended_.notify_all();
  });
}

bool Background::under_way() const noexcept {
  const std::lock_guard lock(mutex_);
  return thread_.joinable();
}

void Background::wait() noexcept {
  const std::lock_guard lock(mutex_);
  if (thread_.joinable()) thread_.join();
}

std::vector<Background::Bytes> Background::take(double timeout_s) {
  std::unique_lock lock(result_mutex_);
  const auto patience = std::chrono::duration<double>(timeout_s);
  const bool in_time = ended_.wait_for(lock, patience, [&] { return has_ended_; });
  check(in_time, ncclRemoteError, "some rank did not get to this call's point of agreement within ",
        timeout_s, " s (SLIMCCL_TIMEOUT_S)");
  check(failure_.empty(), ncclRemoteError,
        "the ranks can no longer agree on what is compressed: ", failure_);
  lock.unlock();
  wait();
  return std::exchange(bytes_, {});
}

}  // namespace slimccl::overlay
