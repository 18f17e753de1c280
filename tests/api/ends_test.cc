// The ends of a communicator, each at every time: with work queued, with a call blocked, twice, and
// what comes after.
#include <atomic>
#include <chrono>
#include <latch>
#include <thread>

#include "api/ranks.h"
#include "api/refused.h"

namespace {

using slimccl::testing::LocalRanks;
using slimccl::testing::NamedCall;
using slimccl::testing::operations;
using slimccl::testing::other_calls;
using slimccl::testing::with_ranks;
using std::chrono::milliseconds;

std::vector<NamedCall> all_calls() {
  auto calls = operations();
  const auto others = other_calls();
  calls.insert(calls.end(), others.begin(), others.end());
  return calls;
}

// An all-reduce of ones, queued.
void queue_sum(float& x, float& y, ncclComm_t comm, cudaStream_t stream) {
  EXPECT_OK(ncclAllReduce(&x, &y, 1, ncclFloat32, ncclSum, comm, stream));
}

struct Stream {
  Stream() { EXPECT_OK(slimcclStreamCreate(&handle)); }
  ~Stream() { EXPECT_OK(slimcclStreamDestroy(handle)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t handle = nullptr;
};

TEST(Ends, NothingIsPossibleAfterDestroyAndAbort) {
  for (const auto end : {ncclCommDestroy, ncclCommAbort}) {
    LocalRanks ranks(2);
    const ncclComm_t gone = ranks[0];
    for (ncclComm_t& comm : ranks.comms) {
      EXPECT_OK(end(comm));
      comm = nullptr;
    }
    for (const NamedCall& each : all_calls()) {
      SCOPED_TRACE(each.name);
      EXPECT_REFUSED(each.call(gone), ncclInvalidArgument, "no living communicator");
    }
  }
}

TEST(Ends, NoOperationIsPossibleAfterFinalize) {
  with_ranks(2, [](int, ncclComm_t& comm) {
    EXPECT_OK(ncclCommFinalize(comm));
    for (const NamedCall& each : operations(ncclFloat32, nullptr, 1)) {
      const std::string name = each.name;
      if (name == "ncclSend" || name == "ncclRecv") continue;  // to itself, on one rank
      EXPECT_EQ(each.call(comm), ncclInvalidUsage) << name << ": " << ncclGetLastError(nullptr);
    }
    int number = 0;
    EXPECT_OK(ncclCommCount(comm, &number)) << "questions are answered still";
    EXPECT_EQ(ncclCommFinalize(comm), ncclInvalidUsage);
  });
}

TEST(Ends, FinalizeWaitsForWhatIsQueued) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    const Stream stream;
    float x = 1, y = 0;
    if (rank == 1) std::this_thread::sleep_for(milliseconds(100));
    queue_sum(x, y, comm, stream.handle);
    EXPECT_OK(ncclCommFinalize(comm));
    EXPECT_EQ(y, 2);
    EXPECT_OK(slimcclStreamQuery(stream.handle));
  });
}

TEST(Ends, DestroyWaitsForWhatIsQueued) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    const Stream stream;
    float x = 1, y = 0;
    if (rank == 1) std::this_thread::sleep_for(milliseconds(100));
    queue_sum(x, y, comm, stream.handle);
    EXPECT_OK(ncclCommDestroy(comm));
    comm = nullptr;
    EXPECT_EQ(y, 2);
    EXPECT_OK(slimcclStreamSynchronize(stream.handle));
  });
}

TEST(Ends, ANonBlockingFinalizeIsPolled) {
  LocalRanks ranks(2);
  std::vector<ncclComm_t> polled(2);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  EXPECT_OK(ncclGroupStart());
  for (size_t rank = 0; rank < 2; ++rank)
    EXPECT_OK(ncclCommSplit(ranks[rank], 0, 0, &polled[rank], &config));
  EXPECT_EQ(ncclGroupEnd(), ncclInProgress);
  const auto poll = [&] {
    for (const ncclComm_t comm : polled) {
      ncclResult_t state = ncclInProgress;
      while (state == ncclInProgress) EXPECT_OK(ncclCommGetAsyncError(comm, &state));
      EXPECT_EQ(state, ncclSuccess);
    }
  };
  poll();
  for (const ncclComm_t comm : polled) EXPECT_EQ(ncclCommFinalize(comm), ncclInProgress);
  poll();
  for (const ncclComm_t comm : polled) EXPECT_OK(ncclCommDestroy(comm));
}

TEST(Ends, AbortEndsWhatIsQueued) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    if (rank == 1) {
      std::this_thread::sleep_for(milliseconds(100));
      return;
    }
    const Stream stream, after;
    float x = 1, y = 0;
    for (int i = 0; i < 3; ++i) queue_sum(x, y, comm, stream.handle);
    queue_sum(x, y, comm, after.handle);
    EXPECT_EQ(slimcclStreamQuery(stream.handle), ncclInProgress);
    EXPECT_OK(ncclCommAbort(comm));
    comm = nullptr;
    EXPECT_REFUSED(slimcclStreamSynchronize(stream.handle), ncclInvalidUsage, "ncclCommAbort");
    EXPECT_OK(slimcclStreamSynchronize(stream.handle)) << "an error is told once";
    EXPECT_EQ(slimcclStreamQuery(after.handle), ncclInvalidUsage);
    EXPECT_EQ(slimcclStreamSynchronize(after.handle), ncclInvalidUsage);
    EXPECT_EQ(y, 0);
  });
}

// The stream goes on: what another communicator has on it, behind the failed operation, is run.
TEST(Ends, AFailedOperationDoesNotStopTheStream) {
  const LocalRanks alone(1);
  with_ranks(2, [&](int rank, ncclComm_t& comm) {
    if (rank == 1) {
      std::this_thread::sleep_for(milliseconds(100));
      return;
    }
    const Stream stream;
    float x = 1, lost = 0, y = 0;
    queue_sum(x, lost, comm, stream.handle);
    queue_sum(x, y, alone[0], stream.handle);
    EXPECT_OK(ncclCommAbort(comm));
    comm = nullptr;
    EXPECT_EQ(slimcclStreamSynchronize(stream.handle), ncclInvalidUsage);
    EXPECT_EQ(y, 1);
  });
}

TEST(Ends, RevokeEndsWhatIsQueuedAndLeavesAParent) {
  std::latch queued(3);
  with_ranks(3, [&](int rank, ncclComm_t& comm) {
    const Stream stream;
    float x = 1, y = 0;
    if (rank == 0) {
      queue_sum(x, y, comm, stream.handle);
      EXPECT_EQ(slimcclStreamQuery(stream.handle), ncclInProgress);
    }
    queued.arrive_and_wait();
    EXPECT_OK(ncclCommRevoke(comm, NCCL_REVOKE_DEFAULT));
    if (rank == 0) {  // by its own revoke, or by another rank's if that was faster
      const ncclResult_t result = slimcclStreamSynchronize(stream.handle);
      EXPECT_TRUE(result == ncclInvalidUsage || result == ncclRemoteError) << result;
    }
    EXPECT_OK(ncclCommRevoke(comm, NCCL_REVOKE_DEFAULT)) << "twice is as once";
    EXPECT_REFUSED(ncclAllReduce(&x, &y, 1, ncclFloat32, ncclSum, comm, nullptr), ncclInvalidUsage,
                   "revoked");
    ncclResult_t state = ncclInternalError;
    EXPECT_OK(ncclCommGetAsyncError(comm, &state));
    EXPECT_EQ(state, ncclSuccess);
    ncclComm_t next = nullptr;
    EXPECT_OK(ncclCommSplit(comm, 0, -rank, &next, nullptr));
    EXPECT_OK(ncclAllReduce(&x, &y, 1, ncclFloat32, ncclSum, next, nullptr));
    EXPECT_EQ(y, 3);
    EXPECT_OK(ncclCommDestroy(next));
  });
}

TEST(Ends, TwoThreadsDestroyOneCommunicator) {
  for (int turn = 0; turn < 20; ++turn) {
    LocalRanks ranks(1);
    std::atomic<int> went_well{0}, refused{0};
    const auto destroy = [&] {
      const ncclResult_t result = ncclCommDestroy(ranks[0]);
      (result == ncclSuccess ? went_well : refused) += 1;
      EXPECT_TRUE(result == ncclSuccess || result == ncclInvalidArgument) << result;
    };
    std::thread other(destroy);
    destroy();
    other.join();
    EXPECT_EQ(went_well, 1);
    EXPECT_EQ(refused, 1);
    ranks.comms.clear();
  }
}

TEST(Ends, AWatchdogAsksUntilTheEnd) {
  for (int turn = 0; turn < 10; ++turn) {
    LocalRanks ranks(2);
    const ncclComm_t watched = ranks[0];
    std::atomic<bool> asked{false};
    std::thread watchdog([&] {
      ncclResult_t state = ncclSuccess, answer = ncclSuccess;
      while (answer == ncclSuccess) {
        answer = ncclCommGetAsyncError(watched, &state);
        EXPECT_TRUE(state == ncclSuccess) << state;
        asked = true;
      }
      EXPECT_EQ(answer, ncclInvalidArgument) << "once it is destroyed";
    });
    while (!asked) std::this_thread::yield();
    for (int i = 0; i < 20; ++i) ranks.expect_sound();
    for (ncclComm_t& comm : ranks.comms) {
      EXPECT_OK(ncclCommDestroy(comm));
      comm = nullptr;
    }
    watchdog.join();
  }
}

// Rank 0 calls, its peer does not; an abort from another thread ends whichever call it is.
TEST(Ends, AbortEndsEveryKindOfCall) {
  for (const NamedCall& each : operations(ncclFloat32, nullptr, 1)) {
    SCOPED_TRACE(each.name);
    with_ranks(2, [&](int rank, ncclComm_t& comm) {
      if (rank == 1) {
        std::this_thread::sleep_for(milliseconds(60));
        return;
      }
      std::thread watchdog([&] {
        std::this_thread::sleep_for(milliseconds(30));
        EXPECT_OK(ncclCommAbort(comm));
      });
      const ncclResult_t result = each.call(comm);
      // A small message may be on its way before the peer asks for it.
      const bool sends = each.name == std::string("ncclSend") ||
                         each.name == std::string("ncclGather") ||
                         each.name == std::string("ncclReduce");
      EXPECT_TRUE(result == ncclInvalidUsage || (sends && result == ncclSuccess)) << result;
      watchdog.join();
      comm = nullptr;
    });
  }
}

TEST(Ends, AbortEndsAFinalizeThatWaits) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    if (rank == 1) {
      std::this_thread::sleep_for(milliseconds(100));
      return;
    }
    const Stream stream;
    float x = 1, y = 0;
    queue_sum(x, y, comm, stream.handle);
    std::thread watchdog([&] {
      std::this_thread::sleep_for(milliseconds(50));
      EXPECT_OK(ncclCommAbort(comm));
    });
    EXPECT_EQ(ncclCommFinalize(comm), ncclInvalidUsage);
    watchdog.join();
    comm = nullptr;
    EXPECT_EQ(slimcclStreamSynchronize(stream.handle), ncclInvalidUsage);
  });
}

TEST(Ends, AStreamDestroyedWithWorkOnItWaitsForTheWork) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    cudaStream_t stream = nullptr;
    EXPECT_OK(slimcclStreamCreate(&stream));
    float x = 1, y = 0;
    if (rank == 1) std::this_thread::sleep_for(milliseconds(50));
    queue_sum(x, y, comm, stream);
    EXPECT_OK(slimcclStreamDestroy(stream));
    EXPECT_EQ(y, 2);
  });
}

}  // namespace
