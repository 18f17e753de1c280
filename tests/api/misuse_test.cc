// Bad input: each gives its result code, a text that names the value, and leaves the process as it
// was.
#include <chrono>
#include <string>

#include "api/ranks.h"
#include "api/refused.h"

namespace {

using slimccl::testing::with_ranks;

TEST(Misuse, NullPointersAndNumbersOutOfRange) {
  ncclUniqueId id{};
  ncclComm_t comm = nullptr;
  EXPECT_REFUSED(ncclGetUniqueId(nullptr), ncclInvalidArgument, "uniqueId is null");
  EXPECT_REFUSED(ncclGetVersion(nullptr), ncclInvalidArgument, "version is null");
  EXPECT_REFUSED(ncclCommInitRank(nullptr, 1, id, 0), ncclInvalidArgument, "comm is null");
  EXPECT_REFUSED(ncclCommInitRank(&comm, 0, id, 0), ncclInvalidArgument, "nranks is 0");
  EXPECT_EQ(ncclCommInitRank(&comm, 2, id, 0), ncclInvalidArgument) << "an id of zeros";
  EXPECT_EQ(comm, nullptr);
  EXPECT_EQ(ncclCommDestroy(nullptr), ncclSuccess) << "as NCCL has it";
  EXPECT_EQ(ncclCommAbort(nullptr), ncclSuccess);
  EXPECT_REFUSED(ncclAllReduce(nullptr, nullptr, 0, ncclFloat32, ncclSum, nullptr, nullptr),
                 ncclInvalidArgument, "communicator is null");
}

TEST(Misuse, ARankOutOfRangeIsToldToAllRanks) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  std::thread other([&] {
    ncclComm_t comm = nullptr;
    EXPECT_EQ(ncclCommInitRank(&comm, 2, id, 0), ncclInvalidUsage);
  });
  ncclComm_t comm = nullptr;
  EXPECT_EQ(ncclCommInitRank(&comm, 2, id, 2), ncclInvalidUsage);
  EXPECT_NE(std::string(ncclGetLastError(nullptr)).find("rank 2"), std::string::npos)
      << ncclGetLastError(nullptr);
  other.join();
}

TEST(Misuse, ArgumentsOfCollectives) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    if (rank != 0) return;
    std::vector<float> x(64), y(64);
    const auto stream = reinterpret_cast<cudaStream_t>(x.data());
    EXPECT_REFUSED(ncclAllGather(nullptr, y.data(), 4, ncclFloat32, comm, nullptr),
                   ncclInvalidArgument, "sendbuff is null");
    EXPECT_REFUSED(ncclAllGather(x.data(), nullptr, 4, ncclFloat32, comm, nullptr),
                   ncclInvalidArgument, "recvbuff is null");
    EXPECT_REFUSED(
        ncclAllGather(x.data(), y.data(), 4, static_cast<ncclDataType_t>(12), comm, nullptr),
        ncclInvalidArgument, "12");
    EXPECT_REFUSED(
        ncclAllGather(x.data(), y.data(), 4, static_cast<ncclDataType_t>(15), comm, nullptr),
        ncclInvalidArgument, "15");
    EXPECT_REFUSED(ncclAllGather(x.data(), y.data(), SIZE_MAX / 2, ncclFloat32, comm, nullptr),
                   ncclInvalidArgument, "more bytes than there can be");
    EXPECT_REFUSED(ncclAllGather(x.data(), y.data(), 4, ncclFloat32, comm, stream),
                   ncclInvalidArgument, "stream");
    EXPECT_REFUSED(ncclReduceScatter(x.data(), y.data(), 4, ncclFloat32,
                                     static_cast<ncclRedOp_t>(99), comm, nullptr),
                   ncclInvalidArgument, "99");
    EXPECT_REFUSED(ncclAllReduce(x.data(), x.data() + 1, 8, ncclFloat32, ncclSum, comm, nullptr),
                   ncclInvalidArgument, "overlap");
    EXPECT_REFUSED(ncclAllGather(x.data() + 4, x.data(), 4, ncclFloat32, comm, nullptr),
                   ncclInvalidArgument, "overlap");
  });
}

TEST(Misuse, UseAfterDestroyAndAfterAbort) {
  ncclComm_t kept = nullptr;
  with_ranks(1, [&](int, ncclComm_t& comm) { kept = comm; });
  float x = 0;
  EXPECT_REFUSED(ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, kept, nullptr), ncclInvalidArgument,
                 "no living communicator");
  EXPECT_REFUSED(ncclCommDestroy(kept), ncclInvalidArgument, "no living communicator");
  int rank = 0;
  EXPECT_REFUSED(ncclCommUserRank(kept, &rank), ncclInvalidArgument, "no living communicator");
  with_ranks(1, [&](int, ncclComm_t& comm) {
    kept = comm;
    EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
    comm = nullptr;
  });
  EXPECT_REFUSED(ncclCommAbort(kept), ncclInvalidArgument, "no living communicator");
}

TEST(Misuse, AnAbortEndsTheWaitOfItsOwnRankAndReachesTheOthers) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    if (rank == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      EXPECT_EQ(ncclCommAbort(comm), ncclSuccess) << ncclGetLastError(nullptr);
      comm = nullptr;
      return;
    }
    float x = 0;
    EXPECT_REFUSED(ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, nullptr), ncclRemoteError,
                   "rank 1");
    ncclResult_t async = ncclSuccess;
    EXPECT_EQ(ncclCommGetAsyncError(comm, &async), ncclSuccess);
    EXPECT_EQ(async, ncclRemoteError);
    EXPECT_REFUSED(ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, nullptr), ncclRemoteError,
                   "abort this communicator");
    EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
    comm = nullptr;
  });
}

TEST(Misuse, AnAbortFromAnotherThreadEndsTheCall) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    if (rank == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(400));
      return;
    }
    std::thread watchdog([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      EXPECT_EQ(ncclCommAbort(comm), ncclSuccess);
    });
    float x = 0;
    EXPECT_EQ(ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, nullptr), ncclInvalidUsage);
    watchdog.join();
    comm = nullptr;
  });
}

TEST(Misuse, AnAbortEndsADestroyThatWaits) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    if (rank == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(600));
      return;
    }
    std::thread caller([&] {
      float x = 0;
      EXPECT_EQ(ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, nullptr), ncclInvalidUsage);
    });
    std::thread destroyer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess) << ncclGetLastError(nullptr);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    EXPECT_EQ(ncclCommAbort(comm), ncclSuccess) << ncclGetLastError(nullptr);
    caller.join();
    destroyer.join();
    EXPECT_EQ(ncclCommDestroy(comm), ncclInvalidArgument);
    comm = nullptr;
  });
}

TEST(Misuse, EveryResultHasAText) {
  for (int code = 0; code < ncclNumResults; ++code) {
    EXPECT_STRNE(ncclGetErrorString(static_cast<ncclResult_t>(code)), "unknown result code");
  }
  EXPECT_STREQ(ncclGetErrorString(static_cast<ncclResult_t>(12)), "unknown result code");
}

}  // namespace
