// Streams: calls are queued and run in order, one communicator's also across streams.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <latch>
#include <numeric>
#include <vector>

#include "api/ranks.h"
#include "slimccl/slimccl.h"

namespace slimccl::testing {
namespace {

#define EXPECT_OK(call) EXPECT_EQ(call, ncclSuccess) << ncclGetLastError(nullptr)

class Stream {
 public:
  Stream() { EXPECT_OK(slimcclStreamCreate(&handle_)); }
  ~Stream() { EXPECT_OK(slimcclStreamDestroy(handle_)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return handle_; }

 private:
  cudaStream_t handle_ = nullptr;
};

void pause(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

TEST(Streams, ACallReturnsBeforeItsResultIsThere) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    const Stream stream;
    std::vector<float> x(1000, 1.0f);
    if (rank == 1) pause(200);
    EXPECT_OK(ncclAllReduce(x.data(), x.data(), x.size(), ncclFloat32, ncclSum, comm, stream));
    if (rank == 0) {
      EXPECT_EQ(slimcclStreamQuery(stream), ncclInProgress) << "rank 1 has not called yet";
    }
    EXPECT_OK(slimcclStreamSynchronize(stream));
    EXPECT_EQ(slimcclStreamQuery(stream), ncclSuccess);
    EXPECT_EQ(x, std::vector<float>(1000, 2.0f));
  });
}

// Each call reads what the one before wrote, on another stream: only call order makes it right.
TEST(Streams, OneCommunicatorRunsInCallOrderAcrossStreams) {
  with_ranks(3, [](int, ncclComm_t& comm) {
    const Stream streams[3];
    std::vector<int64_t> x(5000, 1);
    for (int i = 0; i < 30; ++i) {
      EXPECT_OK(
          ncclAllReduce(x.data(), x.data(), x.size(), ncclInt64, ncclSum, comm, streams[i % 3]));
    }
    for (const Stream& stream : streams) EXPECT_OK(slimcclStreamSynchronize(stream));
    int64_t expected = 1;
    for (int i = 0; i < 30; ++i) expected *= 3;
    EXPECT_EQ(x, std::vector<int64_t>(5000, expected));
  });
}

// Two communicators, one stream: the second must wait for the first's result, although it could
// begin at once.
TEST(Streams, OneStreamRunsInCallOrderAcrossCommunicators) {
  ncclUniqueId second_id;
  ASSERT_EQ(ncclGetUniqueId(&second_id), ncclSuccess);
  with_ranks(2, [&](int rank, ncclComm_t& first) {
    ncclComm_t second = nullptr;
    ASSERT_EQ(ncclCommInitRank(&second, 2, second_id, rank), ncclSuccess);
    for (int round = 0; round < 20; ++round) {
      std::vector<int> x(3000, 1), unrelated(10, 1);
      const Stream stream, other;  // their ends wait: before the buffers'
      if (rank == 1) pause(5);
      EXPECT_OK(ncclAllReduce(x.data(), x.data(), x.size(), ncclInt32, ncclSum, first, stream));
      EXPECT_OK(ncclAllReduce(x.data(), x.data(), x.size(), ncclInt32, ncclSum, second, stream));
      EXPECT_OK(ncclAllReduce(x.data(), x.data(), x.size(), ncclInt32, ncclSum, first, stream));
      EXPECT_OK(
          ncclAllReduce(unrelated.data(), unrelated.data(), 10, ncclInt32, ncclSum, second, other));
      EXPECT_OK(slimcclStreamSynchronize(stream));
      EXPECT_EQ(x, std::vector<int>(3000, 8));
    }
    EXPECT_OK(ncclCommDestroy(second));
  });
}

// Groups and single calls of two communicators take turns at two buffers: only the stream's order
// makes it right.
TEST(Streams, GroupsAndCallsOfTwoCommunicatorsKeepTheirOrder) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  with_ranks(2, [&](int rank, ncclComm_t& first) {
    ncclComm_t second = nullptr;
    ASSERT_EQ(ncclCommInitRank(&second, 2, id, rank), ncclSuccess);
    const Stream stream;
    std::vector<uint64_t> x(3000, 1), y(1'000'000, 1);  // one part takes longer
    const auto twice = [&](std::vector<uint64_t>& values, ncclComm_t comm) {
      EXPECT_OK(ncclAllReduce(values.data(), values.data(), values.size(), ncclUint64, ncclSum,
                              comm, stream));
    };
    for (int i = 0; i < 12; ++i) {
      EXPECT_OK(ncclGroupStart());
      twice(x, i % 2 == 0 ? first : second);
      twice(y, i % 2 == 0 ? second : first);
      EXPECT_OK(ncclGroupEnd());
      if (i % 3 == 0) twice(y, i % 2 == 0 ? first : second);
      if (i % 3 == 1) twice(x, second);
    }
    EXPECT_OK(slimcclStreamSynchronize(stream));
    EXPECT_EQ(x, std::vector<uint64_t>(3000, 1 << 16));
    EXPECT_EQ(y, std::vector<uint64_t>(y.size(), 1 << 16));
    EXPECT_OK(ncclCommDestroy(second));
  });
}

long resident_mib() {
  long all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * 4096 >> 20;
}

TEST(Streams, WhatIsQueuedCostsTheSameHoweverMuchThereIs) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    const Stream stream;
    constexpr int kCalls = 10'000;
    uint64_t x = 0;
    const long before = resident_mib();
    if (rank == 1) pause(1000);
    for (int i = 0; i < kCalls; ++i)
      EXPECT_OK(ncclAllReduce(&x, &x, 1, ncclUint64, ncclMax, comm, stream));
    if (rank == 0) {
      EXPECT_LT(resident_mib() - before, 200);
    }
    EXPECT_OK(slimcclStreamSynchronize(stream));
  });
}

TEST(Streams, SynchronizeReturnsAnErrorOnce) {
  std::latch told(2);  // rank 1 must not be the first to abort
  with_ranks(2, [&](int rank, ncclComm_t& comm) {
    const Stream stream;
    float x = 1;
    if (rank == 0) {
      EXPECT_OK(ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, stream));
      EXPECT_OK(ncclCommAbort(comm));
      EXPECT_EQ(slimcclStreamQuery(stream), ncclInvalidUsage);
      EXPECT_EQ(slimcclStreamSynchronize(stream), ncclInvalidUsage);
      EXPECT_NE(std::string(ncclGetLastError(nullptr)).find("abort"), std::string::npos)
          << ncclGetLastError(nullptr);
      EXPECT_OK(slimcclStreamSynchronize(stream));
    }
    told.arrive_and_wait();
    if (rank == 1) {
      EXPECT_OK(ncclCommAbort(comm));
    }
    comm = nullptr;
  });
}

TEST(Streams, DestroyOfACommunicatorWaitsForWhatIsQueued) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    const Stream stream;
    std::vector<int> x(100'000, 1);
    if (rank == 1) pause(50);
    for (int i = 0; i < 5; ++i)
      EXPECT_OK(ncclAllReduce(x.data(), x.data(), x.size(), ncclInt32, ncclSum, comm, stream));
    EXPECT_OK(ncclCommDestroy(comm));
    comm = nullptr;
    EXPECT_EQ(x, std::vector<int>(100'000, 32));
  });
}

TEST(Streams, ADeviceScalarIsReadWhenTheCallRuns) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    const Stream stream;
    int scalar = 0;  // becomes 2 by a call ahead on the stream
    const int one = 1;
    int x = 10 + rank, y = 0;
    ncclRedOp_t op;
    EXPECT_OK(ncclRedOpCreatePreMulSum(&op, &scalar, ncclInt32, ncclScalarDevice, comm));
    EXPECT_OK(ncclAllReduce(&one, &scalar, 1, ncclInt32, ncclSum, comm, stream));
    EXPECT_OK(ncclAllReduce(&x, &y, 1, ncclInt32, op, comm, stream));
    EXPECT_OK(ncclRedOpDestroy(op, comm));
    EXPECT_OK(slimcclStreamSynchronize(stream));
    EXPECT_EQ(y, 2 * 10 + 2 * 11);
  });
}

TEST(Streams, HandlesThatAreNoStreamsAreRefused) {
  EXPECT_EQ(slimcclStreamCreate(nullptr), ncclInvalidArgument);
  EXPECT_EQ(slimcclStreamSynchronize(nullptr), ncclInvalidArgument);
  cudaStream_t gone = nullptr;
  {
    const Stream stream;
    gone = stream;
  }
  EXPECT_EQ(slimcclStreamQuery(gone), ncclInvalidArgument);
  EXPECT_EQ(slimcclStreamDestroy(gone), ncclInvalidArgument);
  with_ranks(1, [&](int, ncclComm_t& comm) {
    float x = 0;
    EXPECT_EQ(ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, gone), ncclInvalidArgument);
  });
}

}  // namespace
}  // namespace slimccl::testing
