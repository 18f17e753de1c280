// How pauses of compression nest, in the library and in the overlay. Any thread.
#pragma once

#include <atomic>

namespace slimccl {

inline constexpr const char* kNotPaused =
    "nothing is paused: each slimcclResume needs a slimcclPause before it";

// Takes one of the pauses back; false if there is none.
[[nodiscard]] inline bool take_back_pause(std::atomic<int>& pauses) noexcept {
  int depth = pauses.load();
  while (depth > 0) {
    if (pauses.compare_exchange_weak(depth, depth - 1)) return true;
  }
  return false;
}

}  // namespace slimccl
