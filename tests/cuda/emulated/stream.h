// Streams are real threads: each runs its operations one after the other, each after a random
// delay, so that whatever a program has not ordered happens in all orders. A Stream's thread shares
// the ownership of the Stream, and ends once the stream is closed and its work done. Calls from any
// thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>

namespace slimccl::emulated {

struct Context;
struct Capture;
struct CaptureMark;

// Waits, for as long as the deadline of the settings allows; beyond it, a fault that names `what`.
void wait_within_deadline(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                          const std::string& what, const std::function<bool()>& holds);

class Stream : public std::enable_shared_from_this<Stream> {
 public:
  using Work = std::function<void(std::mt19937& random)>;

  // `blocking`: takes turns with the context's stream 0. Its thread starts with its first work.
  static std::shared_ptr<Stream> start(Context& context, bool blocking, int priority = 0);

  uint64_t push(const std::string& what, Work work);  // its ticket
  void close();  // no more work will come; what is there is done

  [[nodiscard]] uint64_t pushed() const;                      // the last operation's ticket
  void wait(uint64_t ticket, const std::string& what) const;  // until that operation is done
  [[nodiscard]] bool idle() const;

  Context& context;
  const bool blocking;
  const int priority;                // told, never obeyed
  std::shared_ptr<Capture> capture;  // for capture.cc

 private:
  struct Operation {
    std::string what;
    Work work;
  };
  Stream(Context& of, bool with_stream_0, int of_priority);
  void run();
  void delay();

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::deque<Operation> waiting_;
  std::string running_;
  uint64_t pushed_ = 0, done_ = 0;
  bool started_ = false, closed_ = false;
  std::mt19937 random_;  // the thread's
};

// An event knows which of its recordings streams have not reached yet: a wait is for one of them,
// and a later recording in a faster stream does not end it.
class Event {
 public:
  using Clock = std::chrono::steady_clock;

  Event(Context& of, bool with_time) : context(of), timed(with_time) {}

  [[nodiscard]] uint64_t record();  // the ticket that the stream passes to reached()
  void reached(uint64_t ticket);
  [[nodiscard]] uint64_t recorded() const;  // the last recording's ticket; 0: never
  [[nodiscard]] bool has_reached(uint64_t ticket) const;
  void wait(uint64_t ticket, const std::string& what) const;
  [[nodiscard]] Clock::time_point time() const;  // of the last recording, once it was reached

  Context& context;
  const bool timed;
  std::shared_ptr<const CaptureMark> mark;  // for capture.cc

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  uint64_t recorded_ = 0;
  std::set<uint64_t> coming_;
  Clock::time_point time_;
};

// Host functions of all streams run on one thread, as a driver may do: one that waits for another
// stream's host function waits forever. From a stream's thread; returns when the function has.
void run_host_function(void (*function)(void*), void* user_data);
[[nodiscard]] bool on_host_function_thread();

}  // namespace slimccl::emulated
