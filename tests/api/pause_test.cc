// slimcclPause, slimcclResume and slimcclStep: two ranks on nodes of their own, whose calls would
// be compressed.
#include "api/processes.h"
#include "api/registry.h"
#include "api/training.h"
#include "slimccl/slimccl.h"

namespace {

using slimccl::testing::Environment;
using slimccl::testing::Processes;
using Kinds = std::map<std::string, uint64_t>;

// Exact sums, but nothing that a codec keeps.
constexpr size_t kCount = 100'000;
float value(size_t i) { return static_cast<float>(i % 4093) / 4096; }

// Whether the sum of two ranks' values comes out bit by bit.
bool sums_exactly(ncclComm_t comm) {
  std::vector<float> data(kCount);
  for (size_t i = 0; i < kCount; ++i) data[i] = value(i);
  EXPECT_EQ(ncclAllReduce(data.data(), data.data(), kCount, ncclFloat32, ncclSum, comm, nullptr),
            ncclSuccess)
      << ncclGetLastError(nullptr);
  for (size_t i = 0; i < kCount; ++i) {
    if (data[i] != 2 * value(i)) return false;
  }
  return true;
}

Kinds kinds(ncclComm_t comm) {
  Kinds counts;
  for (const auto& [kind, calls] : slimccl::api::communicator_of(comm)->stats().calls_by_kind)
    counts[std::string(kind)] = calls;
  return counts;
}

void pause_and_go_on(ncclComm_t comm) {
  EXPECT_FALSE(sums_exactly(comm)) << "nothing to pause";
  EXPECT_EQ(slimcclPause(), ncclSuccess);
  EXPECT_TRUE(sums_exactly(comm));
  EXPECT_EQ(slimcclPause(), ncclSuccess);
  EXPECT_EQ(slimcclResume(), ncclSuccess);
  EXPECT_TRUE(sums_exactly(comm)) << "pauses nest";
  char text[2000];
  EXPECT_EQ(slimcclExplain(comm, "all_reduce", kCount, ncclFloat32, text, sizeof text),
            ncclSuccess);
  EXPECT_NE(std::string(text).find("slimcclPause holds compression back"), std::string::npos)
      << text;
  EXPECT_EQ(kinds(comm), (Kinds{{"compressed", 1}, {"paused", 2}}));
  EXPECT_EQ(slimcclResume(), ncclSuccess);
  EXPECT_FALSE(sums_exactly(comm));
  EXPECT_EQ(kinds(comm), (Kinds{{"compressed", 2}, {"paused", 2}}));
}

TEST(Pause, CallsAreExactUntilTheMatchingResume) {
  const auto environment = [](int rank) {
    return Environment{{"SLIMCCL_NODE_ID", "node" + std::to_string(rank)},
                       {"SLIMCCL_PROFILE", "zeropp"},
                       {"SLIMCCL_FLOOR", "0"},
                       {"SLIMCCL_ALGO", "all_reduce=two_hop"},
                       {"SLIMCCL_LOG", "none"}};
  };
  Processes two(2, environment, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, 2, id, rank) != ncclSuccess) return 2;
    pause_and_go_on(comm);
    EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
    return ::testing::Test::HasFailure() ? 1 : 0;
  });
  EXPECT_EQ(two.wait(0, 60), 0);
  EXPECT_EQ(two.wait(1, 60), 0);
}

TEST(Pause, AResumeOfNothingIsAnError) {
  Processes one(
      1, [](int) { return Environment{}; },
      [](int, const ncclUniqueId&) {
        EXPECT_EQ(slimcclResume(), ncclInvalidUsage);
        EXPECT_STREQ(
            ncclGetLastError(nullptr),
            "slimcclResume: nothing is paused: each slimcclResume needs a slimcclPause before "
            "it");
        EXPECT_EQ(slimcclPause(), ncclSuccess);
        EXPECT_EQ(slimcclResume(), ncclSuccess);
        EXPECT_EQ(slimcclResume(), ncclInvalidUsage) << "the failed one took no later pause";
        return ::testing::Test::HasFailure() ? 1 : 0;
      });
  EXPECT_EQ(one.wait(0, 60), 0);
}

TEST(Pause, StepsAreCounted) {
  const uint64_t before = slimccl::api::training().steps;
  EXPECT_EQ(slimcclStep(), ncclSuccess);
  EXPECT_EQ(slimcclStep(), ncclSuccess);
  EXPECT_EQ(slimccl::api::training().steps, before + 2);
}

}  // namespace
