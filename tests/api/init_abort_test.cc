// A communicator whose other ranks do not come, given up: ncclCommAbort ends the making of it at
// once, whichever call makes it, and the process goes on.
#include <atomic>
#include <chrono>

#include "api/processes.h"

namespace {

using slimccl::testing::Environment;
using slimccl::testing::Processes;
using std::chrono::steady_clock;

constexpr int kRight = 0, kWrong = 1;
constexpr double kAtOnce = 3;  // seconds; the set-up's own patience is far longer

Environment patient(int) { return {{"SLIMCCL_SETUP_TIMEOUT_S", "25"}, {"SLIMCCL_LOG", "none"}}; }

int complain(const char* what) {
  fprintf(stderr, "%s: %s\n", what, ncclGetLastError(nullptr));
  return kWrong;
}

bool works_alone() {
  ncclComm_t comm;
  float x = 1;
  return ncclCommInitAll(&comm, 1, nullptr) == ncclSuccess &&
         ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, nullptr) == ncclSuccess &&
         ncclCommDestroy(comm) == ncclSuccess;
}

ncclConfig_t polled() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

// Ends within kAtOnce, or says so.
template <class Call>
bool at_once(const char* what, Call&& call) {
  const auto start = steady_clock::now();
  const bool right = call();
  const std::chrono::duration<double> passed = steady_clock::now() - start;
  if (!right) complain(what);
  if (passed.count() > kAtOnce) fprintf(stderr, "%s took %.1f s\n", what, passed.count());
  return right && passed.count() <= kAtOnce;
}

TEST(InitAbort, OfABlockedInitRankFromAnotherThread) {
  Processes one(1, patient, [](int, const ncclUniqueId& id) {
    ncclComm_t comm = nullptr;
    std::atomic<bool> aborted_well{false};
    std::thread other([&] {
      usleep(300'000);
      const ncclComm_t handle = std::atomic_ref(comm).load();
      aborted_well = at_once("abort", [&] { return ncclCommAbort(handle) == ncclSuccess; });
    });
    const bool ended = at_once("ncclCommInitRank",
                               [&] { return ncclCommInitRank(&comm, 2, id, 0) != ncclSuccess; });
    other.join();
    return ended && aborted_well && works_alone() ? kRight : kWrong;
  });
  EXPECT_EQ(one.wait(0, 60), kRight);
}

TEST(InitAbort, OfANonBlockingInitRank) {
  Processes one(1, patient, [](int, const ncclUniqueId& id) {
    ncclComm_t comm = nullptr;
    ncclConfig_t config = polled();
    ncclResult_t state = ncclSuccess;
    if (ncclCommInitRankConfig(&comm, 2, id, 0, &config) != ncclInProgress) return complain("init");
    usleep(200'000);
    if (ncclCommGetAsyncError(comm, &state) != ncclSuccess || state != ncclInProgress)
      return complain("poll");
    const bool right =
        at_once("abort", [&] { return ncclCommAbort(comm) == ncclSuccess; }) && works_alone();
    return right ? kRight : kWrong;
  });
  EXPECT_EQ(one.wait(0, 60), kRight);
}

// The other rank is alive and stays away from the split.
TEST(InitAbort, OfANonBlockingSplit) {
  Processes two(2, patient, [](int rank, const ncclUniqueId& id) {
    ncclComm_t parent = nullptr, child = nullptr;
    if (ncclCommInitRank(&parent, 2, id, rank) != ncclSuccess) return complain("init");
    bool right = true;
    if (rank == 0) {
      ncclConfig_t config = polled();
      if (ncclCommSplit(parent, 0, 0, &child, &config) != ncclInProgress) return complain("split");
      usleep(200'000);
      right = at_once("abort", [&] { return ncclCommAbort(child) == ncclSuccess; });
    }
    float x = 1;  // the parent is none the worse
    if (ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, parent, nullptr) != ncclSuccess)
      return complain("the parent");
    return right && x == 2 && ncclCommDestroy(parent) == ncclSuccess ? kRight : kWrong;
  });
  for (int rank = 0; rank < 2; ++rank) EXPECT_EQ(two.wait(rank, 60), kRight) << rank;
}

// Its rank 1 gives up while rank 2 is missing: rank 0 hears of it at once.
TEST(InitAbort, TellsTheRanksThatHaveCome) {
  Processes two(2, patient, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm = nullptr;
    ncclConfig_t config = polled();
    if (ncclCommInitRankConfig(&comm, 3, id, rank, &config) != ncclInProgress)
      return complain("init");
    usleep(300'000);
    if (rank == 1)
      return at_once("abort", [&] { return ncclCommAbort(comm) == ncclSuccess; }) ? kRight : kWrong;
    const bool told = at_once("rank 0's making", [&] {
      ncclResult_t state = ncclInProgress;
      while (state == ncclInProgress && ncclCommGetAsyncError(comm, &state) == ncclSuccess)
        usleep(1000);
      return state != ncclSuccess && state != ncclInProgress;
    });
    return told && ncclCommDestroy(comm) == ncclSuccess ? kRight : kWrong;
  });
  for (int rank = 0; rank < 2; ++rank) EXPECT_EQ(two.wait(rank, 60), kRight) << rank;
}

}  // namespace
