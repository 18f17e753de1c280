#include "core/background.h"

#include <pthread.h>

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

void Background::begin(runtime::Bootstrap& star, Bytes mine, double timeout_s) {
  const std::lock_guard lock(mutex_);
  ensure(!thread_.joinable(), "two exchanges of one communicator at once");
  bytes_.clear();
  failure_.clear();
  thread_ = quiet_thread([this, &star, mine = std::move(mine), timeout_s] {
    try {
      bytes_ = star.all_gather(mine, timeout_s);
    } catch (const std::exception& error) {
      failure_ = error.what();
    }
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

std::vector<Background::Bytes> Background::take() {
  wait();
  check(failure_.empty(), ncclRemoteError, failure_);
  return std::exchange(bytes_, {});
}

}  // namespace slimccl::overlay
