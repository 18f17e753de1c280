// The end of a group of operations: what its caller, the streams it is on, and later operations
// wait for. Any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "slimccl/nccl.h"

namespace slimccl::runtime {

class Completion {
 public:
  // Done after so many parts have finished; 0: at once.
  // when_done: called once by whoever finishes the last part, before others see that it is done;
  // must not throw or wait.
  explicit Completion(size_t parts, std::function<void()> when_done = {})
      : parts_(parts), when_done_(std::move(when_done)) {}

  // The first part that fails gives the whole its result.
  void finish_part(ncclResult_t code, std::string_view text) noexcept;
  [[nodiscard]] bool done() const noexcept { return parts_ == 0; }
  void wait() const;

  // Once done: ncclSuccess, or why not.
  [[nodiscard]] ncclResult_t code() const;
  [[nodiscard]] std::string text() const;
  // Once done: throws Error unless all went well.
  void check_success() const;

 private:
  std::atomic<size_t> parts_;
  const std::function<void()> when_done_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  ncclResult_t code_ = ncclSuccess;
  std::string text_;
};

}  // namespace slimccl::runtime
