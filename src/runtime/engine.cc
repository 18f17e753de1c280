#include "runtime/engine.h"

#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <future>
#include <system_error>

#include "base/error.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace slimccl::runtime {
namespace {

// A sleeping engine looks round this often even if nobody wakes it: for time-outs, and as a net
// under lost wake-ups.
constexpr int kNapMs = 50;

std::string random_name() {
  uint64_t bits[2] = {};
  ensure(getrandom(bits, sizeof bits, 0) == static_cast<ssize_t>(sizeof bits), "getrandom failed");
  return concat(std::hex, bits[0], "-", bits[1]);
}

// The thread computes what must be the same bits everywhere: a caller's flush-to-zero mode must not
// leak into it.
void standard_float_mode() {
#if defined(__SSE__)
  _mm_setcsr(0x1f80);
#endif
}

// Signals are for the program's own threads, except those that say what this one did wrong.
void block_signals() {
  sigset_t all;
  sigfillset(&all);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigdelset(&all, own);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

Engine& Engine::instance() {
  // Never destroyed: at process exit the thread may still be moving a communicator that nobody
  // destroyed, and a forked child must not touch what its parent's thread owned.
  static std::mutex mutex;
  static Engine* engine = nullptr;
  const std::lock_guard lock(mutex);
  if (engine == nullptr || !engine->alive_here()) engine = new Engine;
  return *engine;
}

bool Engine::alive_here() const noexcept { return process_ == getpid(); }

Engine::Engine()
    : process_(getpid()),
      process_name_(random_name()),
      wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  check(static_cast<bool>(wake_fd_), ncclSystemError,
        "eventfd failed; is the limit of open files (ulimit -n) too low?");
}

void Engine::acquire() {
  const std::lock_guard lock(lease_mutex_);
  if (leases_ == 0) {
    stop_ = false;
    try {
      thread_ = std::thread([this] { loop(); });
    } catch (const std::system_error& error) {
      throw Error(ncclSystemError,
                  concat("cannot start the progress thread: ", error.what(),
                         "; is the limit of threads (ulimit -u, pids.max) reached?"));
    }
  }
  ++leases_;
}

void Engine::release() {
  const std::lock_guard lock(lease_mutex_);
  if (--leases_ > 0 || !alive_here()) return;
  stop_ = true;
  wake();
  thread_.join();
}

void Engine::run(const std::function<void()>& work) {
  std::promise<void> done;
  {
    const std::lock_guard lock(command_mutex_);
    commands_.emplace_back([&] {
      try {
        work();
        done.set_value();
      } catch (...) {
        done.set_exception(std::current_exception());
      }
    });
  }
  wake();
  done.get_future().get();
}

void Engine::add(std::shared_ptr<Participant> participant) {
  run([&] { participants_.push_back(std::move(participant)); });
}

void Engine::remove(const Participant* participant) {
  run([&] {
    std::erase_if(participants_, [&](const auto& each) { return each.get() == participant; });
  });
}

void Engine::wake() noexcept {
  const uint64_t one = 1;
  (void)!write(wake_fd_.get(), &one, sizeof one);
}

bool Engine::take_commands() {
  std::vector<std::function<void()>> commands;
  {
    const std::lock_guard lock(command_mutex_);
    commands.swap(commands_);
  }
  for (const auto& command : commands) command();
  return !commands.empty();
}

bool Engine::progress_all() noexcept {
  bool moved = false;
  for (const auto& participant : participants_) moved |= participant->progress();
  return moved;
}

void Engine::sleep() noexcept {
  const bool idle =
      std::ranges::all_of(participants_, [](const auto& each) { return each->arm(); });
  if (!idle) return;
  wait_fds_.assign(1, wake_fd_.get());
  for (const auto& participant : participants_) participant->add_wait_fds(wait_fds_);
  polls_.clear();
  for (const int fd : wait_fds_) polls_.push_back({fd, POLLIN, 0});
  (void)::poll(polls_.data(), polls_.size(), kNapMs);
  uint64_t count = 0;
  (void)!read(wake_fd_.get(), &count, sizeof count);
}

void Engine::loop() {
  pthread_setname_np(pthread_self(), "slimccl");
  block_signals();
  standard_float_mode();
  int idle_looks = 0;
  while (!stop_) {
    const bool moved = take_commands() | progress_all();
    if (moved) {
      idle_looks = 0;
    } else if (idle_looks < spins_) {
      ++idle_looks;
      sched_yield();  // whoever else wants this core (more processes than we know of) gets it
    } else {
      sleep();
      idle_looks = 0;
    }
  }
}

}  // namespace slimccl::runtime
