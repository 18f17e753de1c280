// One exchange between the ranks of a communicator that goes on while its calls do.
#pragma once

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

  // Gives all ranks `mine`. None may be under way. Throws if no thread can be had.
  void begin(runtime::Bootstrap& star, Bytes mine, double timeout_s);
  // Returns at once if none is under way, otherwise when it has ended: after its time-out at the
  // latest, or when the connections' cancel flag is set.
  void wait() noexcept;
  [[nodiscard]] bool under_way() const noexcept;
  // Waits; every rank's bytes, by rank. Throws Error if the ranks could not be reached.
  [[nodiscard]] std::vector<Bytes> take();

 private:
  mutable std::mutex mutex_;  // of thread_
  std::thread thread_;
  std::vector<Bytes> bytes_;
  std::string failure_;  // empty: none
};

// A thread that the application's signals are not for. Throws if none can be had.
[[nodiscard]] std::thread quiet_thread(const std::function<void()>& task);

}  // namespace slimccl::overlay
