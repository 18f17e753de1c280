// What a call's way to the real NCCL depends on: only what is alike on all ranks, and nothing of
// ours that may fail.
#include "core/forward.h"

#include <gtest/gtest.h>

#include <thread>

namespace slimccl::overlay {
namespace {

TEST(OverlayForward, AWindowIsOneWhateverOthersDo) {
  Entry entry;
  std::vector<char> buffers(200);
  const auto begin = reinterpret_cast<uintptr_t>(buffers.data());
  entry.window_list.push_back({nullptr, begin, begin + 100});
  entry.windows = 1;
  const std::lock_guard busy(entry.mutex);  // as while the ranks meet or compare
  std::thread([&] {
    EXPECT_FALSE(in_window(entry, &buffers[100], &buffers[199]));
    EXPECT_TRUE(in_window(entry, &buffers[150], &buffers[99]));
  }).join();
}

}  // namespace
}  // namespace slimccl::overlay
