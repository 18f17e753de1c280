// The twin itself: kernels that are right run, whatever CUDA leaves undefined is reported with the
// kernel, block and thread that did it. Nothing hangs.
#include "cuda/twin/machine.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>
#include <vector>

#include "cuda/twin/device.h"
#include "cuda/twin/kernels.h"
#include "cuda/twin/memory.h"
#include "quant/cuda/access.cuh"

namespace slimccl::twin {
namespace {

class MachineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* reason = unavailable()) GTEST_SKIP() << reason;
    // Other tests start threads, and a fork in their presence is not safe.
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  }
  static void run(uint32_t blocks, uint32_t threads, const std::function<void()>& body,
                  WarpOrder order = WarpOrder::kForward) {
    run_grid("the_kernel", blocks, threads, order, body);
  }
};
using MachineDeathTest = MachineTest;

TEST_F(MachineTest, EveryThreadOfEveryBlockRunsOnce) {
  std::vector<int> runs(3 * 64);
  for (const WarpOrder order : {WarpOrder::kForward, WarpOrder::kBackward}) {
    run(
        3, 64, [&] { ++runs[blockIdx.x * 64 + threadIdx.x]; }, order);
  }
  EXPECT_EQ(runs, std::vector<int>(3 * 64, 2));
}

TEST_F(MachineTest, WarpsRunInTheOrderAskedFor) {
  std::vector<uint32_t> first;
  const auto note = [&] {
    if (threadIdx.x % kWarp == 0) first.push_back(threadIdx.x);
  };
  run(1, 96, note);
  run(1, 96, note, WarpOrder::kBackward);
  EXPECT_EQ(first, (std::vector<uint32_t>{0, 32, 64, 64, 32, 0}));
}

TEST_F(MachineTest, NobodyPassesABarrierBeforeAllHaveReachedIt) {
  int reached = 0, early = 0;
  run(2, 256, [&] {
    ++reached;
    __syncthreads();
    early += reached != 256 * static_cast<int>(blockIdx.x + 1);
    __syncthreads();
  });
  EXPECT_EQ(early, 0);
}

TEST_F(MachineTest, ShufflesGiveTheOtherLanesValue) {
  std::array<uint32_t, 64> got{};
  run(1, 64, [&] {
    const uint32_t once = __shfl_xor_sync(0xffffffff, 100 + threadIdx.x, 5);
    got[threadIdx.x] = __shfl_xor_sync(0xffffffff, once, 16);
  });
  for (uint32_t i = 0; i < 64; ++i) EXPECT_EQ(got[i], 100 + (i ^ 5 ^ 16));
}

TEST_F(MachineTest, PartsOfAWarpMayShuffleByThemselves) {
  std::array<uint32_t, 32> got{};
  run(1, 32, [&] {
    if (threadIdx.x < 8) {
      got[threadIdx.x] = __shfl_xor_sync(0x000000ff, threadIdx.x, 1);
    } else {
      got[threadIdx.x] = __shfl_xor_sync(0xffffff00, threadIdx.x, 4);
    }
  });
  for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(got[i], i ^ (i < 8 ? 1 : 4));
}

TEST_F(MachineTest, ThreadsOfTheHostRunGridsAtTheSameTime) {
  std::array<uint32_t, 4> sums{};
  std::vector<std::thread> hosts;
  for (uint32_t& sum : sums) {
    hosts.emplace_back([&sum] {
      for (int i = 0; i < 20; ++i) {
        run(5, 64, [&] {
          __syncthreads();
          sum += __shfl_xor_sync(0xffffffff, 1, 1);
        });
      }
    });
  }
  for (std::thread& host : hosts) host.join();
  for (const uint32_t sum : sums) EXPECT_EQ(sum, 20u * 5 * 64);
}

TEST_F(MachineDeathTest, ABarrierThatSomeNeverReachIsReported) {
  EXPECT_DEATH(run(2, 64,
                   [] {
                     if (threadIdx.x < 40) __syncthreads();
                   }),
               "the_kernel, block 0, .*deadlock.* 40 at the barrier .*machine_test.cc:[0-9]+ "
               "\\(the first is thread 0\\); 24 have ended \\(the first is thread 40\\)");
}

// Bodies of their own, since all of a macro's arguments are on one line.
void meets_in_two_places() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
void shuffles_in_two_places() {
  if (threadIdx.x % 2 == 0) {
    __shfl_xor_sync(0xffffffff, 0, 1);
  } else {
    __shfl_xor_sync(0xffffffff, 0, 1);
  }
}

TEST_F(MachineDeathTest, BarriersInDifferentPlacesAreReported) {
  EXPECT_DEATH(run(1, 64, meets_in_two_places), "deadlock.* 64 at the barrier");
}

TEST_F(MachineDeathTest, AShuffleThatALaneNeverReachesIsReported) {
  EXPECT_DEATH(run(1, 32,
                   [] {
                     if (threadIdx.x != 9) __shfl_xor_sync(0xffffffff, 0, 1);
                   }),
               "deadlock.* 31 at the shuffle .*1 have ended \\(the first is thread 9\\)");
}

TEST_F(MachineDeathTest, ShufflesInDifferentPlacesAreReported) {
  EXPECT_DEATH(run(1, 32, shuffles_in_two_places), "deadlock.* 32 at the shuffle");
}

TEST_F(MachineDeathTest, MasksWithoutTheLaneOrItsPartnerAreReported) {
  EXPECT_DEATH(run(1, 32, [] { __shfl_xor_sync(0x0000ffff, 0, 1); }),
               "thread 16: a lane that is not in its own shuffle's mask");
  EXPECT_DEATH(run(1, 32,
                   [] {
                     if (threadIdx.x < 16) __shfl_xor_sync(0x0000ffff, 0, 16);
                   }),
               "thread 0: a shuffle reads lane 16, which is not in its mask");
}

TEST_F(MachineDeathTest, BlocksThatAreNotWholeWarpsAreRefused) {
  EXPECT_DEATH(run(1, 40, [] {}), "blocks of 40 threads: give whole warps");
}

TEST_F(MachineDeathTest, AKernelInAKernelIsRefused) {
  EXPECT_DEATH(run(1, 32, [] { run(1, 32, [] {}); }), "cannot launch another one");
}

TEST_F(MachineDeathTest, MisalignedAccessesAreReported) {
  alignas(16) static std::byte memory[64];
  EXPECT_DEATH(run(1, 32, [] { quant::cuda::ld16(memory + 8); }),
               "block 0, thread 0: a read of 16 bytes at 0x[0-9a-f]+, which is not aligned");
  EXPECT_DEATH(run(1, 32, [] { quant::cuda::store(memory + 2, uint32_t{1}); }),
               "a write of 4 bytes at 0x[0-9a-f]+, which is not aligned");
}

TEST_F(MachineDeathTest, AccessesOutsideTheAllowedMemoryAreReported) {
  alignas(16) static std::byte memory[64];
  const auto with_memory = [](const std::function<void()>& body) {
    const OnlyMemory only({{memory, 20, false}, {memory + 32, 16, true}});
    run(7, 32, body);
  };
  with_memory([] { quant::cuda::ld16(memory), quant::cuda::st16(memory + 32, {1, 2, 3, 4}); });
  EXPECT_DEATH(with_memory([] {
                 if (blockIdx.x == 6 && threadIdx.x == 30) quant::cuda::ld16(memory + 16);
               }),
               "the_kernel, block 6, thread 30: a read of 16 bytes at 0x[0-9a-f]+, which is in no "
               "buffer that allows it");
  EXPECT_DEATH(with_memory([] { quant::cuda::store(memory, uint8_t{1}); }),
               "a write of 1 bytes at 0x[0-9a-f]+, which is in no buffer that allows it");
}

TEST_F(MachineTest, AddressesMayBeTranslated) {
  alignas(16) static std::array<uint32_t, 8> memory{};
  static const auto* const device = reinterpret_cast<std::byte*>(uintptr_t{0x7000});
  set_translation([](const void* address, uint32_t, bool) -> void* {
    return reinterpret_cast<std::byte*>(memory.data()) +
           (static_cast<const std::byte*>(address) - device);
  });
  run(1, 32, [] {
    if (threadIdx.x == 0) {
      quant::cuda::store(const_cast<std::byte*>(device) + 4, uint32_t{7});
    }
    __syncthreads();
    if (threadIdx.x == 1) memory[2] = quant::cuda::load<uint32_t>(device + 4) + 1;
  });
  set_translation(nullptr);
  EXPECT_EQ(memory[1], 7u);
  EXPECT_EQ(memory[2], 8u);
}

TEST_F(MachineDeathTest, UnknownKernelsAreRefused) {
  EXPECT_DEATH(run_twin("slimccl_fold_to_fp8", {}, WarpOrder::kForward),
               "no kernel is named 'slimccl_fold_to_fp8'");
}

}  // namespace
}  // namespace slimccl::twin
