// Point-to-point calls and the collectives made of them.
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "api/ranks.h"
#include "slimccl/slimccl.h"

namespace slimccl::testing {
namespace {

#define EXPECT_OK(call) EXPECT_EQ(call, ncclSuccess) << ncclGetLastError(nullptr)

// Slot `to` of what rank `from` holds.
std::vector<int> slot(int from, int to, size_t count) {
  std::vector<int> values(count);
  std::iota(values.begin(), values.end(), from * 1'000'000 + to * 10'000);
  return values;
}

std::vector<int> slots(int ranks, size_t count, const std::function<std::pair<int, int>(int)>& of) {
  std::vector<int> all;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto [from, to] = of(rank);
    const auto part = slot(from, to, count);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

constexpr int kRanks = 3;

TEST(Transfers, AllToAllGatherAndScatterPutEverySlotInItsPlace) {
  with_ranks(kRanks, [](int rank, ncclComm_t& comm) {
    for (const size_t count : {size_t{0}, size_t{1}, size_t{1001}}) {
      const auto mine = slots(kRanks, count, [&](int to) { return std::pair(rank, to); });
      std::vector<int> got(kRanks * count, -1);
      EXPECT_OK(ncclAlltoAll(mine.data(), got.data(), count, ncclInt32, comm, nullptr));
      EXPECT_EQ(got, slots(kRanks, count, [&](int from) { return std::pair(from, rank); }));

      const auto part = slot(rank, 5, count);
      std::vector<int> gathered(rank == 1 ? kRanks * count : 0, -1);
      EXPECT_OK(ncclGather(part.data(), gathered.data(), count, ncclInt32, 1, comm, nullptr));
      if (rank == 1) {
        EXPECT_EQ(gathered, slots(kRanks, count, [](int from) { return std::pair(from, 5); }));
      }
      std::vector<int> dealt(count, -1);
      EXPECT_OK(ncclScatter(rank == 2 ? mine.data() : nullptr, dealt.data(), count, ncclInt32, 2,
                            comm, nullptr));
      EXPECT_EQ(dealt, slot(2, rank, count));
    }
  });
}

TEST(Transfers, GatherAndScatterInPlace) {
  with_ranks(kRanks, [](int rank, ncclComm_t& comm) {
    constexpr size_t kCount = 100;
    std::vector<int> all = slots(kRanks, kCount, [&](int to) { return std::pair(rank, to); });
    int* const own = all.data() + static_cast<size_t>(rank) * kCount;
    if (rank == 1) {
      EXPECT_OK(ncclGather(own, all.data(), kCount, ncclInt32, 1, comm, nullptr));
      EXPECT_EQ(all, slots(kRanks, kCount, [](int from) { return std::pair(from, from); }));
      EXPECT_OK(ncclScatter(all.data(), own, kCount, ncclInt32, 1, comm, nullptr));
    } else {
      EXPECT_OK(ncclGather(own, nullptr, kCount, ncclInt32, 1, comm, nullptr));
      EXPECT_OK(ncclScatter(nullptr, own, kCount, ncclInt32, 1, comm, nullptr));
    }
    EXPECT_EQ(std::vector<int>(own, own + kCount), slot(rank, rank, kCount));
  });
}

// Each rank sends to the next before it receives from the one before: only in a group.
TEST(Transfers, ARingInAGroup) {
  with_ranks(kRanks, [](int rank, ncclComm_t& comm) {
    const auto mine = slot(rank, 0, 300'000);
    std::vector<int> got(mine.size(), -1);
    const int next = (rank + 1) % kRanks, before = (rank + kRanks - 1) % kRanks;
    EXPECT_OK(ncclGroupStart());
    EXPECT_OK(ncclSend(mine.data(), mine.size(), ncclInt32, next, comm, nullptr));
    EXPECT_OK(ncclRecv(got.data(), got.size(), ncclInt32, before, comm, nullptr));
    EXPECT_OK(ncclGroupEnd());
    EXPECT_EQ(got, slot(before, 0, mine.size()));
    slimcclStats_t stats{.size = sizeof stats};
    EXPECT_OK(slimcclGetStats(comm, &stats));
    EXPECT_EQ(stats.transfers, 2u);
  });
}

TEST(Transfers, AMessageToOneselfNeedsBothEndsInOneGroup) {
  with_ranks(1, [](int, ncclComm_t& comm) {
    const int mine[2] = {7, 8};
    int got[2] = {0, 0};
    EXPECT_EQ(ncclSend(mine, 1, ncclInt32, 0, comm, nullptr), ncclInvalidUsage);
    EXPECT_NE(std::string(ncclGetLastError(nullptr)).find("both ends"), std::string::npos);
    EXPECT_OK(ncclGroupStart());
    EXPECT_OK(ncclRecv(&got[0], 1, ncclInt32, 0, comm, nullptr));
    EXPECT_OK(ncclRecv(&got[1], 1, ncclInt32, 0, comm, nullptr));
    EXPECT_OK(ncclSend(&mine[0], 1, ncclInt32, 0, comm, nullptr));
    EXPECT_OK(ncclSend(&mine[1], 1, ncclInt32, 0, comm, nullptr));
    EXPECT_OK(ncclGroupEnd());
    EXPECT_EQ(got[0], 7);
    EXPECT_EQ(got[1], 8);
  });
}

// A fast root must not run away from a slow rank: its small broadcasts would pile up there.
TEST(Transfers, ThousandsOfBroadcastsWithASlowReceiver) {
  with_ranks(kRanks, [](int rank, ncclComm_t& comm) {
    for (int i = 0; i < 2000; ++i) {
      int word = rank == i % kRanks ? i : -1;
      if (rank == 2 && i % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      EXPECT_OK(ncclBroadcast(&word, &word, 1, ncclInt32, i % kRanks, comm, nullptr));
      ASSERT_EQ(word, i);
      int sum = rank;
      EXPECT_OK(ncclReduce(&sum, &sum, 1, ncclInt32, ncclSum, i % kRanks, comm, nullptr));
      if (rank == i % kRanks) {
        ASSERT_EQ(sum, 3);
      }
    }
  });
}

}  // namespace
}  // namespace slimccl::testing
