// What the trainer has said about its run: of the whole process. Any thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace slimccl::api {

struct Training {
  std::atomic<int> pauses{0};      // slimcclPause less slimcclResume
  std::atomic<uint64_t> steps{0};  // slimcclStep
  // Collectives are exact, on all ranks.
  [[nodiscard]] bool paused() const noexcept { return pauses.load() > 0; }
};

inline Training& training() noexcept {
  static Training only;
  return only;
}

}  // namespace slimccl::api
