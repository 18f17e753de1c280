// After a process was killed: the survivors hear who it was, shrink without it, and go on. Also
// where the killed one hosted the unique id, and where the shrunken communicator loses one again.
#include "api/processes.h"

#include "slimccl/slimccl.h"

namespace {

using slimccl::testing::Environment;
using slimccl::testing::Processes;

constexpr int kRight = 0, kWrong = 1;
constexpr int kRanks = 4;

Environment nodes_of_two(int rank) {
  return {{"SLIMCCL_NODE_ID", "node" + std::to_string(rank / 2)},
          {"SLIMCCL_ADDRESS", "127.0.0.1"},
          {"SLIMCCL_TIMEOUT_S", "30"},
          {"SLIMCCL_SETUP_TIMEOUT_S", "15"},
          {"SLIMCCL_LOG", "none"}};
}
Environment one_node(int) {
  return {{"SLIMCCL_TIMEOUT_S", "30"}, {"SLIMCCL_SETUP_TIMEOUT_S", "15"}, {"SLIMCCL_LOG", "none"}};
}

int complain(int rank, const char* what) {
  fprintf(stderr, "rank %d: %s: %s\n", rank, what, ncclGetLastError(nullptr));
  return kWrong;
}

bool sums_to(ncclComm_t comm, int ranks) {
  std::vector<float> x(10'000, 1.0f);
  return ncclAllReduce(x.data(), x.data(), x.size(), ncclFloat32, ncclSum, comm, nullptr) ==
             ncclSuccess &&
         x.front() == static_cast<float>(ranks) && x.back() == static_cast<float>(ranks);
}

// All-reduces until it fails, which must be since `lost` is gone; then *comm is without it.
int outlive(int rank, ncclComm_t* comm, int lost, int ranks, bool notice) {
  float x = 0;
  ncclResult_t result = ncclSuccess;
  while (notice && result == ncclSuccess)
    result = ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, *comm, nullptr);
  const std::string text = ncclGetLastError(nullptr);
  if (notice &&
      (result != ncclRemoteError || text.find("rank " + std::to_string(lost)) == std::string::npos))
    return complain(rank, "the loss");
  ncclComm_t next = nullptr;
  if (ncclCommShrink(*comm, &lost, 1, &next, nullptr, NCCL_SHRINK_ABORT) != ncclSuccess)
    return complain(rank, "shrink");
  int now = -1, count = -1, before = -1;
  ncclCommUserRank(*comm, &before);
  ncclCommUserRank(next, &now);
  ncclCommCount(next, &count);
  if (now != (before > lost ? before - 1 : before) || count != ranks - 1)
    return complain(rank, "its place");
  if (!sums_to(next, ranks - 1)) return complain(rank, "a sum of survivors");
  if (ncclCommAbort(*comm) != ncclSuccess) return complain(rank, "abort of the old one");
  *comm = next;
  return kRight;
}

void kill_one(Environment (*place)(int), int victim, bool notice) {
  Processes ranks(kRanks, place, [&](int rank, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, kRanks, id, rank) != ncclSuccess) return complain(rank, "init");
    if (!sums_to(comm, kRanks)) return complain(rank, "a sum of all");
    if (rank == victim) {
      usleep(notice ? 100'000 : 300'000);  // then all are in the next call, or have begun to shrink
      kill(getpid(), SIGKILL);
    }
    if (outlive(rank, &comm, victim, kRanks, notice) != kRight) return kWrong;
    return ncclCommDestroy(comm) == ncclSuccess ? kRight : complain(rank, "destroy");
  });
  for (int rank = 0; rank < kRanks; ++rank)
    EXPECT_EQ(ranks.wait(rank, 40), rank == victim ? -1 : kRight) << "rank " << rank;
}

TEST(Survivors, OfAnyRankOnTwoNodes) {
  for (int victim = 0; victim < kRanks; ++victim) {
    SCOPED_TRACE(victim);
    kill_one(nodes_of_two, victim, true);
  }
}

TEST(Survivors, OfAnyRankOnOneNode) {
  for (const int victim : {0, 3}) {
    SCOPED_TRACE(victim);
    kill_one(one_node, victim, true);
  }
}

TEST(Survivors, OfARankThatIsKilledWhileTheyShrinkWithoutIt) {
  for (const int victim : {0, 2}) {
    SCOPED_TRACE(victim);
    kill_one(nodes_of_two, victim, false);
  }
}

// Rank 0 of each goes: of the first communicator, then of what was left of it.
TEST(Survivors, OfTwoLossesOneAfterTheOther) {
  Processes ranks(kRanks, nodes_of_two, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, kRanks, id, rank) != ncclSuccess) return complain(rank, "init");
    if (!sums_to(comm, kRanks)) return complain(rank, "a sum of all");
    usleep(rank == 0 ? 100'000 : 0);
    if (rank == 0) kill(getpid(), SIGKILL);
    if (outlive(rank, &comm, 0, kRanks, true) != kRight) return kWrong;
    usleep(rank == 1 ? 100'000 : 0);
    if (rank == 1) kill(getpid(), SIGKILL);
    if (outlive(rank, &comm, 0, kRanks - 1, true) != kRight) return kWrong;
    return ncclCommDestroy(comm) == ncclSuccess ? kRight : complain(rank, "destroy");
  });
  for (int rank = 0; rank < kRanks; ++rank)
    EXPECT_EQ(ranks.wait(rank, 40), rank < 2 ? -1 : kRight) << "rank " << rank;
}

// The parent's host is gone, the child's family lives: a split made before works on.
TEST(Survivors, OfAnotherCommunicatorOfTheKilledProcess) {
  Processes ranks(kRanks, nodes_of_two, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm, half;
    if (ncclCommInitRank(&comm, kRanks, id, rank) != ncclSuccess) return complain(rank, "init");
    if (ncclCommSplit(comm, rank % 2, 0, &half, nullptr) != ncclSuccess)
      return complain(rank, "split");
    if (!sums_to(half, 2)) return complain(rank, "a sum of a half");
    usleep(rank == 0 ? 100'000 : 0);
    if (rank == 0) kill(getpid(), SIGKILL);
    usleep(300'000);
    if (rank == 2) {
      if (sums_to(half, 2)) return complain(rank, "the half of the killed one works");
      return ncclCommAbort(half) == ncclSuccess ? kRight : complain(rank, "abort");
    }
    for (int i = 0; i < 50; ++i) {
      if (!sums_to(half, 2)) return complain(rank, "the other half");
    }
    return ncclCommDestroy(half) == ncclSuccess ? kRight : complain(rank, "destroy");
  });
  for (int rank = 0; rank < kRanks; ++rank)
    EXPECT_EQ(ranks.wait(rank, 40), rank == 0 ? -1 : kRight) << "rank " << rank;
}

}  // namespace
