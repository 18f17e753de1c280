#include "cuda/emulated/stream.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>
#include <utility>

#include "cuda/emulated/settings.h"

namespace slimccl::emulated {

void wait_within_deadline(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                          const std::string& what, const std::function<bool()>& holds) {
  const auto limit = std::chrono::seconds(settings().deadline_s);
  if (!changed.wait_for(lock, limit, holds)) {
    fault("still waiting after " + std::to_string(settings().deadline_s) + " s for " + what);
  }
}

Stream::Stream(Context& of, bool with_stream_0, int of_priority)
    : context(of), blocking(with_stream_0), priority(of_priority) {
  static std::atomic<uint32_t> started{0};
  random_.seed(settings().seed + 7919 * started++);
}

std::shared_ptr<Stream> Stream::start(Context& context, bool blocking, int priority) {
  return std::shared_ptr<Stream>(new Stream(context, blocking, priority));
}

uint64_t Stream::push(const std::string& what, Work work) {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(started_, true)) {
    std::thread([self = shared_from_this()] { self->run(); }).detach();
  }
  waiting_.push_back({what, std::move(work)});
  changed_.notify_all();
  return ++pushed_;
}

void Stream::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

uint64_t Stream::pushed() const {
  const std::lock_guard lock(mutex_);
  return pushed_;
}

void Stream::wait(uint64_t ticket, const std::string& what) const {
  std::unique_lock lock(mutex_);
  wait_within_deadline(changed_, lock, what, [&] { return done_ >= ticket; });
}

bool Stream::idle() const {
  const std::lock_guard lock(mutex_);
  return done_ == pushed_;
}

void Stream::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return closed_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    {
      const Operation next = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      delay();
      next.work(random_);
    }
    lock.lock();
    ++done_;
    changed_.notify_all();
  }
}

// One operation in three starts at once, the others after 10 us to the longest delay: short delays
// are as likely as long ones, by orders of magnitude.
void Stream::delay() {
  if (settings().delay_us <= 0 || random_() % 3 == 0) return;
  const double longest = std::max(10, settings().delay_us);
  const double part = std::uniform_real_distribution<double>(0, 1)(random_);
  const double us = 10 * std::pow(longest / 10, part);
  std::this_thread::sleep_for(std::chrono::duration<double, std::micro>(us));
}

uint64_t Event::record() {
  const std::lock_guard lock(mutex_);
  coming_.insert(++recorded_);
  return recorded_;
}

void Event::reached(uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  coming_.erase(ticket);
  if (ticket == recorded_) time_ = Clock::now();
  changed_.notify_all();
}

uint64_t Event::recorded() const {
  const std::lock_guard lock(mutex_);
  return recorded_;
}

bool Event::has_reached(uint64_t ticket) const {
  const std::lock_guard lock(mutex_);
  return !coming_.contains(ticket);
}

void Event::wait(uint64_t ticket, const std::string& what) const {
  std::unique_lock lock(mutex_);
  wait_within_deadline(changed_, lock, what, [&] { return !coming_.contains(ticket); });
}

Event::Clock::time_point Event::time() const {
  const std::lock_guard lock(mutex_);
  return time_;
}

namespace {

thread_local bool is_host_function_thread = false;

struct HostFunctions {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> waiting;

  HostFunctions() {
    std::thread([this] { run(); }).detach();
  }

  void run() {
    is_host_function_thread = true;
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return !waiting.empty(); });
      const auto next = std::move(waiting.front());
      waiting.pop_front();
      lock.unlock();
      next();
      lock.lock();
    }
  }
};

}  // namespace

void run_host_function(void (*function)(void*), void* user_data) {
  static HostFunctions& thread = *new HostFunctions;
  std::unique_lock lock(thread.mutex);
  bool done = false;  // outlives the function: this thread waits for it
  thread.waiting.push_back([&done, function, user_data] {
    function(user_data);
    const std::lock_guard locked(thread.mutex);
    done = true;
    thread.changed.notify_all();
  });
  thread.changed.notify_all();
  wait_within_deadline(thread.changed, lock, "a host function (all streams' share one thread)",
                       [&] { return done; });
}

bool on_host_function_thread() { return is_host_function_thread; }

}  // namespace slimccl::emulated
