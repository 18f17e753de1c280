// The bad-input matrix of single arguments: each null, each number out of range. All calls here are
// refused at once, on one rank only, and leave the communicator as it was.
#include <climits>

#include "api/refused.h"

namespace {

using slimccl::testing::LocalRanks;
using slimccl::testing::NamedCall;
using slimccl::testing::operations;
using slimccl::testing::other_calls;

void expect_named(const NamedCall& each, ncclComm_t comm, ncclResult_t code, const char* words) {
  EXPECT_REFUSED(each.call(comm), code, words);
  EXPECT_EQ(std::string(ncclGetLastError(nullptr)).find(std::string(each.name) + ": "), 0u)
      << ncclGetLastError(nullptr);
}

TEST(Arguments, ACommunicatorThatIsNullOrWasNeverMade) {
  auto calls = operations();
  const auto others = other_calls();
  calls.insert(calls.end(), others.begin(), others.end());
  for (const NamedCall& each : calls) {
    SCOPED_TRACE(each.name);
    const std::string name = each.name;
    if (name == "ncclCommDestroy" || name == "ncclCommAbort") {
      EXPECT_OK(each.call(nullptr));
    } else {
      expect_named(each, nullptr, ncclInvalidArgument, "communicator is null");
    }
    int here = 0;
    expect_named(each, reinterpret_cast<ncclComm_t>(&here), ncclInvalidArgument,
                 "no living communicator");
    expect_named(each, reinterpret_cast<ncclComm_t>(0x10), ncclInvalidArgument,
                 "no living communicator");
  }
}

TEST(Arguments, ATypeThatIsNone) {
  const LocalRanks ranks(2);
  for (const int type : {-1, 12, 13, 255, INT_MAX, INT_MIN}) {
    for (const NamedCall& each : operations(static_cast<ncclDataType_t>(type))) {
      SCOPED_TRACE(each.name);
      expect_named(each, ranks[0], ncclInvalidArgument, std::to_string(type).c_str());
    }
    ncclRedOp_t op;
    float scalar = 1;
    EXPECT_REFUSED(ncclRedOpCreatePreMulSum(&op, &scalar, static_cast<ncclDataType_t>(type),
                                            ncclScalarHostImmediate, ranks[0]),
                   ncclInvalidArgument, std::to_string(type));
    char text[50];
    EXPECT_REFUSED(slimcclExplain(ranks[0], "all_reduce", 1, static_cast<ncclDataType_t>(type),
                                  text, sizeof text),
                   ncclInvalidArgument, std::to_string(type));
  }
  ranks.expect_sound();
}

TEST(Arguments, ARootOrPeerThatIsNone) {
  const LocalRanks ranks(2);
  for (const int root : {-1, 2, INT_MAX, INT_MIN}) {
    for (const NamedCall& each : operations(ncclFloat32, nullptr, root)) {
      const std::string name = each.name;
      if (name.starts_with("ncclAll") || name == "ncclReduceScatter") continue;
      SCOPED_TRACE(each.name);
      const bool messages = name == "ncclSend" || name == "ncclRecv";
      expect_named(each, ranks[1], ncclInvalidArgument,
                   ((messages ? "peer is " : "root is ") + std::to_string(root)).c_str());
    }
  }
  ranks.expect_sound();
}

TEST(Arguments, AStreamThatIsNone) {
  const LocalRanks ranks(2);
  int here = 0;
  cudaStream_t gone = nullptr;
  EXPECT_OK(slimcclStreamCreate(&gone));
  EXPECT_OK(slimcclStreamDestroy(gone));
  for (const cudaStream_t stream :
       {gone, reinterpret_cast<cudaStream_t>(&here), reinterpret_cast<cudaStream_t>(1)}) {
    for (const NamedCall& each : operations(ncclFloat32, stream)) {
      SCOPED_TRACE(each.name);
      if (each.name == std::string("ncclRecv")) continue;  // a lonely one; as ncclSend
      expect_named(each, ranks[0], ncclInvalidArgument, "no living stream");
    }
    EXPECT_REFUSED(slimcclStreamSynchronize(stream), ncclInvalidArgument, "no living stream");
    EXPECT_REFUSED(slimcclStreamQuery(stream), ncclInvalidArgument, "no living stream");
    EXPECT_REFUSED(slimcclStreamDestroy(stream), ncclInvalidArgument, "no living stream");
  }
  EXPECT_REFUSED(slimcclStreamSynchronize(nullptr), ncclInvalidArgument, "null");
  EXPECT_REFUSED(slimcclStreamQuery(nullptr), ncclInvalidArgument, "null");
  EXPECT_REFUSED(slimcclStreamDestroy(nullptr), ncclInvalidArgument, "null");
  EXPECT_REFUSED(slimcclStreamCreate(nullptr), ncclInvalidArgument, "null");
  ranks.expect_sound();
}

TEST(Arguments, AnOperationThatIsNone) {
  const LocalRanks ranks(2), others(1);
  float x[4]{}, y[4]{};
  ncclRedOp_t foreign, halves;
  double scalar = 2;
  EXPECT_OK(
      ncclRedOpCreatePreMulSum(&foreign, &scalar, ncclFloat64, ncclScalarHostImmediate, others[0]));
  EXPECT_OK(
      ncclRedOpCreatePreMulSum(&halves, &scalar, ncclFloat16, ncclScalarHostImmediate, ranks[0]));
  for (const int op :
       {-1, 5, 99, INT_MAX, INT_MIN, static_cast<int>(foreign), static_cast<int>(halves)}) {
    const auto bad = static_cast<ncclRedOp_t>(op);
    const std::string words = "operation " + std::to_string(op);
    EXPECT_REFUSED(ncclAllReduce(x, y, 2, ncclFloat32, bad, ranks[0], nullptr), ncclInvalidArgument,
                   words);
    EXPECT_REFUSED(ncclReduceScatter(x, y, 1, ncclFloat32, bad, ranks[0], nullptr),
                   ncclInvalidArgument, words);
    EXPECT_REFUSED(ncclReduce(x, y, 2, ncclFloat32, bad, 1, ranks[0], nullptr), ncclInvalidArgument,
                   words);
  }
  EXPECT_REFUSED(ncclRedOpDestroy(foreign, ranks[0]), ncclInvalidArgument, "not made");
  EXPECT_REFUSED(ncclRedOpDestroy(ncclSum, ranks[0]), ncclInvalidArgument, "not made");
  EXPECT_OK(ncclRedOpDestroy(halves, ranks[0]));
  EXPECT_REFUSED(ncclRedOpDestroy(halves, ranks[0]), ncclInvalidArgument, "destroyed before");
  ranks.expect_sound();
}

TEST(Arguments, EveryNullBuffer) {
  const LocalRanks ranks(2);
  const ncclComm_t root = ranks[0], other = ranks[1];
  float x[4]{};
  const auto f32 = ncclFloat32;
  const auto bad = ncclInvalidArgument;
  const char *send = "sendbuff is null", *recv = "recvbuff is null";
  EXPECT_REFUSED(ncclAllGather(nullptr, x, 2, f32, root, nullptr), bad, send);
  EXPECT_REFUSED(ncclAllGather(x, nullptr, 2, f32, root, nullptr), bad, recv);
  EXPECT_REFUSED(ncclReduceScatter(nullptr, x, 2, f32, ncclSum, root, nullptr), bad, send);
  EXPECT_REFUSED(ncclReduceScatter(x, nullptr, 2, f32, ncclSum, root, nullptr), bad, recv);
  EXPECT_REFUSED(ncclAllReduce(nullptr, x, 2, f32, ncclSum, root, nullptr), bad, send);
  EXPECT_REFUSED(ncclAllReduce(x, nullptr, 2, f32, ncclSum, root, nullptr), bad, recv);
  EXPECT_REFUSED(ncclReduce(nullptr, x, 2, f32, ncclSum, 0, other, nullptr), bad, send);
  EXPECT_REFUSED(ncclReduce(x, nullptr, 2, f32, ncclSum, 0, root, nullptr), bad, recv);
  EXPECT_REFUSED(ncclBroadcast(nullptr, x, 2, f32, 0, root, nullptr), bad, send);
  EXPECT_REFUSED(ncclBroadcast(x, nullptr, 2, f32, 0, other, nullptr), bad, recv);
  EXPECT_REFUSED(ncclBcast(nullptr, 2, f32, 0, other, nullptr), bad, recv);
  EXPECT_REFUSED(ncclAlltoAll(nullptr, x, 2, f32, root, nullptr), bad, send);
  EXPECT_REFUSED(ncclAlltoAll(x, nullptr, 2, f32, root, nullptr), bad, recv);
  EXPECT_REFUSED(ncclGather(nullptr, x, 2, f32, 0, other, nullptr), bad, send);
  EXPECT_REFUSED(ncclGather(x, nullptr, 2, f32, 0, root, nullptr), bad, recv);
  EXPECT_REFUSED(ncclScatter(nullptr, x, 2, f32, 0, root, nullptr), bad, send);
  EXPECT_REFUSED(ncclScatter(x, nullptr, 2, f32, 0, other, nullptr), bad, recv);
  EXPECT_REFUSED(ncclSend(nullptr, 2, f32, 1, root, nullptr), bad, send);
  EXPECT_REFUSED(ncclRecv(nullptr, 2, f32, 1, root, nullptr), bad, recv);
  ranks.expect_sound();
}

TEST(Arguments, EveryOtherNullPointer) {
  const LocalRanks ranks(2);
  const ncclComm_t comm = ranks[0];
  const auto bad = ncclInvalidArgument;
  ncclUniqueId id{};
  ncclComm_t made = nullptr;
  ncclRedOp_t op;
  float x = 0;
  int excluded = 1;
  char text[9];
  EXPECT_REFUSED(ncclGetVersion(nullptr), bad, "version is null");
  EXPECT_REFUSED(ncclGetUniqueId(nullptr), bad, "uniqueId is null");
  EXPECT_REFUSED(ncclMemAlloc(nullptr, 1), bad, "ptr is null");
  EXPECT_REFUSED(ncclCommInitRank(nullptr, 1, id, 0), bad, "comm is null");
  EXPECT_REFUSED(ncclCommInitRankConfig(nullptr, 1, id, 0, nullptr), bad, "comm is null");
  EXPECT_REFUSED(ncclCommInitRankScalable(nullptr, 1, 0, 1, &id, nullptr), bad, "comm is null");
  EXPECT_REFUSED(ncclCommInitRankScalable(&made, 1, 0, 1, nullptr, nullptr), bad, "commIds");
  EXPECT_REFUSED(ncclCommInitAll(nullptr, 1, nullptr), bad, "comm is null");
  EXPECT_REFUSED(ncclCommSplit(comm, 0, 0, nullptr, nullptr), bad, "newcomm is null");
  EXPECT_REFUSED(ncclCommShrink(comm, &excluded, 1, nullptr, nullptr, 0), bad, "newcomm is null");
  EXPECT_REFUSED(ncclCommShrink(comm, nullptr, 1, &made, nullptr, 0), bad, "excludeRanksList");
  EXPECT_REFUSED(ncclCommCount(comm, nullptr), bad, "count is null");
  EXPECT_REFUSED(ncclCommUserRank(comm, nullptr), bad, "rank is null");
  EXPECT_REFUSED(ncclCommCuDevice(comm, nullptr), bad, "device is null");
  EXPECT_REFUSED(ncclCommGetAsyncError(comm, nullptr), bad, "asyncError is null");
  void* handle = nullptr;
  EXPECT_REFUSED(ncclCommRegister(comm, nullptr, 4, &handle), bad, "buff is null");
  EXPECT_REFUSED(ncclCommRegister(comm, &x, 0, &handle), bad, "size is 0");
  EXPECT_REFUSED(ncclCommRegister(comm, &x, 4, nullptr), bad, "handle is null");
  EXPECT_REFUSED(ncclCommDeregister(comm, nullptr), bad, "no handle");
  EXPECT_REFUSED(ncclRedOpCreatePreMulSum(nullptr, &x, ncclFloat32, ncclScalarHostImmediate, comm),
                 bad, "op is null");
  EXPECT_REFUSED(ncclRedOpCreatePreMulSum(&op, nullptr, ncclFloat32, ncclScalarDevice, comm), bad,
                 "scalar is null");
  EXPECT_REFUSED(slimcclGetStats(comm, nullptr), bad, "stats is null");
  EXPECT_REFUSED(slimcclExplain(comm, nullptr, 1, ncclFloat32, text, 9), bad, "null");
  EXPECT_REFUSED(slimcclExplain(comm, "all_reduce", 1, ncclFloat32, nullptr, 9), bad, "null");
  EXPECT_REFUSED(slimcclExplain(comm, "all_reduce", 1, ncclFloat32, text, 0), bad, "capacity");
  ranks.expect_sound();
}

TEST(Arguments, NumbersThatNameNothing) {
  const LocalRanks ranks(2);
  const ncclComm_t comm = ranks[0];
  const auto bad = ncclInvalidArgument;
  ncclUniqueId id;
  ncclComm_t made = comm;
  EXPECT_OK(ncclGetUniqueId(&id));
  for (const int count : {0, -1, INT_MIN}) {
    EXPECT_REFUSED(ncclCommInitRank(&made, count, id, 0), bad,
                   "nranks is " + std::to_string(count));
    EXPECT_EQ(made, nullptr);
    EXPECT_REFUSED(ncclCommInitAll(&made, count, nullptr), bad, "ndev is " + std::to_string(count));
    EXPECT_REFUSED(ncclCommInitRankScalable(&made, 1, 0, count, &id, nullptr), bad, "nId is ");
  }
  EXPECT_REFUSED(ncclCommInitRankScalable(&made, 1, 0, 2, &id, nullptr), bad, "nId is 2");
  for (const int color : {-2, INT_MIN})
    EXPECT_REFUSED(ncclCommSplit(comm, color, 0, &made, nullptr), bad, "color is ");
  for (int excluded : {-1, 2}) {
    EXPECT_REFUSED(ncclCommShrink(comm, &excluded, 1, &made, nullptr, 0), bad,
                   "rank " + std::to_string(excluded));
  }
  int excluded = 0;
  EXPECT_REFUSED(ncclCommShrink(comm, &excluded, 1, &made, nullptr, 0), bad, "this one");
  excluded = 1;
  EXPECT_REFUSED(ncclCommShrink(comm, &excluded, 0, &made, nullptr, 0), bad, "Count (0)");
  EXPECT_REFUSED(ncclCommShrink(comm, &excluded, 1, &made, nullptr, 2), bad, "shrinkFlags is 2");
  EXPECT_REFUSED(ncclCommRevoke(comm, 1), bad, "revokeFlags is 1");
  const volatile int neither = 2;
  ncclRedOp_t op;
  float x = 0;
  EXPECT_REFUSED(ncclRedOpCreatePreMulSum(&op, &x, ncclFloat32,
                                          static_cast<ncclScalarResidence_t>(neither), comm),
                 bad, "residence 2");
  void* memory = nullptr;
  EXPECT_REFUSED(ncclMemAlloc(&memory, 0), bad, "size is 0");
  EXPECT_NE(ncclMemAlloc(&memory, SIZE_MAX), ncclSuccess);
  EXPECT_NE(ncclMemAlloc(&memory, SIZE_MAX / 2 - 4096), ncclSuccess);
  EXPECT_REFUSED(ncclMemFree(&x), bad, "did not come from ncclMemAlloc");
  EXPECT_OK(ncclMemFree(nullptr));
  ranks.expect_sound();
}

// Sizes whose product would wrap around.
TEST(Arguments, CountsThatAreMoreThanThereCanBe) {
  const LocalRanks ranks(2);
  const ncclComm_t comm = ranks[0];
  static float x[4], y[4];
  const auto f32 = ncclFloat32;
  const char* words = "more bytes than there can be";
  for (const size_t count : {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 4 + 1, SIZE_MAX / 8 + 2}) {
    const auto bad = ncclInvalidArgument;
    EXPECT_REFUSED(ncclAllGather(x, y, count, f32, comm, nullptr), bad, words);
    EXPECT_REFUSED(ncclReduceScatter(x, y, count, f32, ncclSum, comm, nullptr), bad, words);
    EXPECT_REFUSED(ncclAllReduce(x, y, count, f32, ncclSum, comm, nullptr), bad, words);
    EXPECT_REFUSED(ncclReduce(x, y, count, f32, ncclSum, 0, comm, nullptr), bad, words);
    EXPECT_REFUSED(ncclBroadcast(x, y, count, f32, 0, comm, nullptr), bad, words);
    EXPECT_REFUSED(ncclBcast(x, count, f32, 0, comm, nullptr), bad, words);
    EXPECT_REFUSED(ncclAlltoAll(x, y, count, f32, comm, nullptr), bad, words);
    EXPECT_REFUSED(ncclGather(x, y, count, f32, 0, comm, nullptr), bad, words);
    EXPECT_REFUSED(ncclScatter(x, y, count, f32, 0, comm, nullptr), bad, words);
    EXPECT_REFUSED(ncclSend(x, count, f32, 1, comm, nullptr), bad, words);
    EXPECT_REFUSED(ncclRecv(x, count, f32, 1, comm, nullptr), bad, words);
  }
  ranks.expect_sound();
}

TEST(Arguments, OverlapsThatAreNotTheInPlaceForm) {
  const LocalRanks ranks(2);
  static float x[64];
  const auto f32 = ncclFloat32;
  for (size_t rank = 0; rank < 2; ++rank) {
    const ncclComm_t comm = ranks[rank];
    const int me = static_cast<int>(rank);
    const auto bad = ncclInvalidArgument;
    float *base = x + 32, *own = base + 4 * rank, *wrong = base + 4 * (1 - rank);
    EXPECT_REFUSED(ncclAllGather(wrong, base, 4, f32, comm, nullptr), bad, "overlap");
    EXPECT_REFUSED(ncclAllGather(own + 1, base, 4, f32, comm, nullptr), bad, "overlap");
    EXPECT_REFUSED(ncclReduceScatter(base, wrong, 4, f32, ncclSum, comm, nullptr), bad, "overlap");
    EXPECT_REFUSED(ncclReduceScatter(base, own - 1, 4, f32, ncclSum, comm, nullptr), bad,
                   "overlap");
    EXPECT_REFUSED(ncclAllReduce(base, base + 3, 4, f32, ncclSum, comm, nullptr), bad, "overlap");
    EXPECT_REFUSED(ncclReduce(base, base - 3, 4, f32, ncclSum, me, comm, nullptr), bad, "overlap");
    EXPECT_REFUSED(ncclBroadcast(base, base + 1, 4, f32, me, comm, nullptr), bad, "overlap");
    EXPECT_REFUSED(ncclAlltoAll(base, base, 4, f32, comm, nullptr), bad, "overlap");
    EXPECT_REFUSED(ncclAlltoAll(base, base + 7, 4, f32, comm, nullptr), bad, "overlap");
    EXPECT_REFUSED(ncclGather(wrong, base, 4, f32, me, comm, nullptr), bad, "overlap");
    EXPECT_REFUSED(ncclGather(own + 1, base, 4, f32, me, comm, nullptr), bad, "overlap");
    EXPECT_REFUSED(ncclScatter(base, wrong, 4, f32, me, comm, nullptr), bad, "overlap");
    EXPECT_REFUSED(ncclScatter(base, base - 1, 4, f32, me, comm, nullptr), bad, "overlap");
  }
  ranks.expect_sound();
}

}  // namespace
