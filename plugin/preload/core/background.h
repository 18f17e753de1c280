// One exchange between the ranks of a communicator that goes on while its calls do.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/bootstrap.h"

namespace slimccl::overlay {

// Owned by one communicator. While an exchange is under way nobody else uses the connections: who
// wants to calls wait() first. begin() and take() are for one thread at a time, the others for any.
class Background {
 public:
  using Bytes = std::vector<std::byte>;

  Background() = default;
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;
  ~Background() { wait(); }

  // Gives all ranks `mine`, for which they may take as long as they like. None may be under way.
  // Throws if no thread can be had.
  void begin(runtime::Bootstrap& star, Bytes mine);
  // Returns at once if none is under way, otherwise when it has ended: when all ranks have come,
  // one has died, or the connections' cancel flag is set.
  void wait() noexcept;
  [[nodiscard]] bool under_way() const noexcept;
  // Waits up to `timeout_s` seconds; every rank's bytes, by rank. Throws Error if the ranks have
  // not come, or can no longer be reached.
  [[nodiscard]] std::vector<Bytes> take(double timeout_s);

 private:
  mutable std::mutex mutex_;  // of thread_
  std::thread thread_;
  std::mutex result_mutex_;  // of what follows
  std::condition_variable ended_;
  bool has_ended_ = false;
  std::vector<Bytes> bytes_;
  std::string failure_;  // empty: none
};

// A thread that the application's signals are not for. Throws if none can be had.
[[nodiscard]] std::thread quiet_thread(const std::function<void()>& task);

}  // namespace slimccl::overlay
