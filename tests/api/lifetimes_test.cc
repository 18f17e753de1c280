// Calls that overlap in time: one fails, ends or is given up while another is under way.
#include <dirent.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <string>

#include "api/ranks.h"
#include "api/refused.h"

namespace {

using slimccl::testing::with_ranks;

void pause(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// A communicator that refuses its part of a group does not free the buffers of the others.
TEST(Lifetimes, AFailedGroupReturnsWhenNobodyUsesItsBuffersAnyMore) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  with_ranks(2, [&](int rank, ncclComm_t& sound) {
    ncclComm_t revoked = nullptr;
    EXPECT_OK(ncclCommInitRank(&revoked, 2, id, rank));
    float x = 1, sum = 0, none = 0;
    if (rank == 0) {
      EXPECT_OK(ncclCommRevoke(revoked, NCCL_REVOKE_DEFAULT));
      EXPECT_OK(ncclGroupStart());
      EXPECT_OK(ncclAllReduce(&x, &none, 1, ncclFloat32, ncclSum, revoked, nullptr));
      EXPECT_OK(ncclAllReduce(&x, &sum, 1, ncclFloat32, ncclSum, sound, nullptr));
      EXPECT_REFUSED(ncclGroupEnd(), ncclInvalidUsage, "has been revoked");
    } else {
      pause(300);
      EXPECT_OK(ncclAllReduce(&x, &sum, 1, ncclFloat32, ncclSum, sound, nullptr));
    }
    EXPECT_EQ(sum, 2.0f);
    EXPECT_OK(ncclCommAbort(revoked));
  });
}

// Waits until a non-blocking communicator is no longer in progress.
ncclResult_t state_of(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) {
    EXPECT_OK(ncclCommGetAsyncError(comm, &state));
    pause(1);
  }
  return state;
}

void with_non_blocking_ranks(int ranks, const std::function<void(int, ncclComm_t)>& body) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
      config.blocking = 0;
      ncclComm_t comm = nullptr;
      EXPECT_EQ(ncclCommInitRankConfig(&comm, ranks, id, rank, &config), ncclInProgress);
      EXPECT_EQ(state_of(comm), ncclSuccess);
      body(rank, comm);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Lifetimes, ASplitThatEndsDoesNotHideACollectiveUnderWay) {
  with_non_blocking_ranks(2, [](int rank, ncclComm_t comm) {
    float x = 1, sum = 0;
    ncclComm_t none = nullptr;
    const auto call = [&] {
      EXPECT_EQ(ncclAllReduce(&x, &sum, 1, ncclFloat32, ncclSum, comm, nullptr), ncclInProgress);
    };
    if (rank == 0) call();
    EXPECT_EQ(ncclCommSplit(comm, NCCL_SPLIT_NOCOLOR, 0, &none, nullptr), ncclInProgress);
    if (rank == 1) {
      EXPECT_EQ(state_of(comm), ncclSuccess);
      pause(300);
      call();
    }
    EXPECT_EQ(state_of(comm), ncclSuccess);
    EXPECT_EQ(sum, 2.0f);
    EXPECT_OK(ncclCommDestroy(comm));
  });
}

TEST(Lifetimes, AParentMayGoWhileItsChildIsBeingMade) {
  with_non_blocking_ranks(3, [](int rank, ncclComm_t comm) {
    if (rank == 2) return (void)ncclCommAbort(comm);
    int excluded = 2;
    ncclComm_t child = nullptr;
    if (rank == 1) pause(300);
    EXPECT_EQ(ncclCommShrink(comm, &excluded, 1, &child, nullptr, NCCL_SHRINK_ABORT),
              ncclInProgress);
    EXPECT_OK(ncclCommDestroy(comm));
    EXPECT_EQ(state_of(child), ncclSuccess) << ncclGetLastError(nullptr);
    EXPECT_OK(ncclCommDestroy(child));
  });
}

int progress_threads() {
  int count = 0;
  DIR* tasks = opendir("/proc/self/task");
  while (const dirent* task = readdir(tasks)) {
    std::ifstream file(std::string("/proc/self/task/") + task->d_name + "/comm");
    std::string name;
    file >> name;
    count += name == "slimccl" ? 1 : 0;
  }
  closedir(tasks);
  return count;
}

// The handle of a communicator that another thread is making: only an abort may use it.
__attribute__((noinline, no_sanitize("thread"))) ncclComm_t peek(const volatile ncclComm_t& comm) {
  return comm;
}

// Whenever it comes: there is a living communicator or none at all, never one without a handle.
TEST(Lifetimes, AnAbortDuringTheMakingLeavesNothing) {
  for (int round = 0; round < 300; ++round) {
    ncclUniqueId id;
    ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    ncclComm_t comms[2] = {};
    std::vector<std::thread> threads;
    std::atomic<int> made = 0;
    for (int rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] {
        (void)ncclCommInitRank(&comms[rank], 2, id, rank);
        ++made;
      });
    }
    threads.emplace_back([&, round] {
      std::this_thread::sleep_for(std::chrono::microseconds(500 + round % 100 * 40));
      if (made < 2) (void)ncclCommAbort(peek(comms[0]));
    });
    for (std::thread& thread : threads) thread.join();
    for (ncclComm_t comm : comms) (void)ncclCommAbort(comm);
  }
  for (int i = 0; i < 100 && progress_threads() > 0; ++i) pause(20);
  EXPECT_EQ(progress_threads(), 0);
}

}  // namespace
