// Bad input's laws: a code, a text, and nothing else. Ranks of one thread, and every call that
// takes a communicator, for tests that go through all of them.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "slimccl/nccl_device.h"
#include "slimccl/slimccl.h"

// Expects `call` to fail with `code` and a last error that contains `words`.
#define EXPECT_REFUSED(call, code, words)                                            \
  do {                                                                               \
    EXPECT_EQ(call, code);                                                           \
    EXPECT_NE(std::string(ncclGetLastError(nullptr)).find(words), std::string::npos) \
        << "last error: " << ncclGetLastError(nullptr);                              \
  } while (0)
#define EXPECT_OK(call) EXPECT_EQ(call, ncclSuccess) << ncclGetLastError(nullptr)

namespace slimccl::testing {

// A communicator whose ranks all belong to this thread; those left alive are destroyed.
class LocalRanks {
 public:
  explicit LocalRanks(int ranks) : comms(static_cast<size_t>(ranks)) {
    EXPECT_OK(ncclCommInitAll(comms.data(), ranks, nullptr));
  }
  ~LocalRanks() {
    for (ncclComm_t comm : comms) EXPECT_OK(ncclCommDestroy(comm));
  }
  LocalRanks(const LocalRanks&) = delete;
  LocalRanks& operator=(const LocalRanks&) = delete;

  ncclComm_t operator[](size_t rank) const { return comms[rank]; }
  [[nodiscard]] size_t size() const { return comms.size(); }

  // An all-reduce of ones over all ranks gives their number: they are as good as ever.
  void expect_sound() const { expect_sound(comms); }
  static void expect_sound(const std::vector<ncclComm_t>& comms) {
    std::vector<float> values(comms.size(), 1.0f);
    EXPECT_OK(ncclGroupStart());
    for (size_t rank = 0; rank < comms.size(); ++rank) {
      EXPECT_OK(ncclAllReduce(&values[rank], &values[rank], 1, ncclFloat32, ncclSum, comms[rank],
                              nullptr));
    }
    EXPECT_OK(ncclGroupEnd());
    for (const float value : values) EXPECT_EQ(value, static_cast<float>(comms.size()));
  }

  std::vector<ncclComm_t> comms;
};

struct NamedCall {
  const char* name;
  std::function<ncclResult_t(ncclComm_t)> call;
};

// What moves data, each call sound in all but its communicator (of two ranks or more). A type or a
// stream can be put in their place.
inline std::vector<NamedCall> operations(ncclDataType_t type = ncclFloat32,
                                         cudaStream_t stream = nullptr, int root = 0) {
  static double in[64], out[64];
  return {
      {"ncclAllGather", [=](auto c) { return ncclAllGather(in, out, 1, type, c, stream); }},
      {"ncclReduceScatter",
       [=](auto c) { return ncclReduceScatter(in, out, 1, type, ncclSum, c, stream); }},
      {"ncclAllReduce",
       [=](auto c) { return ncclAllReduce(in, out, 1, type, ncclSum, c, stream); }},
      {"ncclReduce",
       [=](auto c) { return ncclReduce(in, out, 1, type, ncclMax, root, c, stream); }},
      {"ncclBroadcast", [=](auto c) { return ncclBroadcast(in, out, 1, type, root, c, stream); }},
      {"ncclBcast", [=](auto c) { return ncclBcast(in, 1, type, root, c, stream); }},
      {"ncclAlltoAll", [=](auto c) { return ncclAlltoAll(in, out, 1, type, c, stream); }},
      {"ncclGather", [=](auto c) { return ncclGather(in, out, 1, type, root, c, stream); }},
      {"ncclScatter", [=](auto c) { return ncclScatter(in, out, 1, type, root, c, stream); }},
      {"ncclSend", [=](auto c) { return ncclSend(in, 1, type, root, c, stream); }},
      {"ncclRecv", [=](auto c) { return ncclRecv(out, 1, type, root, c, stream); }},
  };
}

// Whatever else takes a communicator and answers with a result.
inline std::vector<NamedCall> other_calls() {
  static int number;
  static ncclResult_t result;
  static ncclRedOp_t op;
  static float scalar = 1;
  static void* handle;
  static ncclComm_t made;
  static slimcclStats_t stats{};
  static char text[100];
  stats.size = sizeof stats;
  return {
      {"ncclCommFinalize", ncclCommFinalize},
      {"ncclCommDestroy", ncclCommDestroy},
      {"ncclCommAbort", ncclCommAbort},
      {"ncclCommRevoke", [](auto c) { return ncclCommRevoke(c, NCCL_REVOKE_DEFAULT); }},
      {"ncclCommCount", [](auto c) { return ncclCommCount(c, &number); }},
      {"ncclCommUserRank", [](auto c) { return ncclCommUserRank(c, &number); }},
      {"ncclCommCuDevice", [](auto c) { return ncclCommCuDevice(c, &number); }},
      {"ncclCommGetAsyncError", [](auto c) { return ncclCommGetAsyncError(c, &result); }},
      {"ncclCommRegister", [](auto c) { return ncclCommRegister(c, &scalar, 4, &handle); }},
      {"ncclCommDeregister", [](auto c) { return ncclCommDeregister(c, &scalar); }},
      {"ncclCommSplit", [](auto c) { return ncclCommSplit(c, 0, 0, &made, nullptr); }},
      {"ncclCommShrink",
       [](auto c) {
         int excluded = 1;
         return ncclCommShrink(c, &excluded, 1, &made, nullptr, NCCL_SHRINK_DEFAULT);
       }},
      {"ncclRedOpCreatePreMulSum",
       [](auto c) {
         return ncclRedOpCreatePreMulSum(&op, &scalar, ncclFloat32, ncclScalarHostImmediate, c);
       }},
      {"ncclRedOpDestroy",
       [](auto c) { return ncclRedOpDestroy(static_cast<ncclRedOp_t>(1000000), c); }},
      {"slimcclGetStats", [](auto c) { return slimcclGetStats(c, &stats); }},
      {"slimcclExplain",
       [](auto c) { return slimcclExplain(c, "all_reduce", 1, ncclFloat32, text, sizeof text); }},
  };
}

}  // namespace slimccl::testing
