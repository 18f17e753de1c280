// Split and shrink: who is in, in which order, and what the parent is afterwards.
#include <algorithm>
#include <random>
#include <tuple>

#include "api/refused.h"

namespace {

using slimccl::testing::LocalRanks;

struct Wish {
  int color, key;
};

// Splits all ranks in one group and compares with the definition: by key, then by rank.
std::vector<ncclComm_t> split(const std::vector<ncclComm_t>& parents,
                              const std::vector<Wish>& wishes) {
  std::vector<ncclComm_t> made(parents.size(), parents[0]);
  EXPECT_OK(ncclGroupStart());
  for (size_t rank = 0; rank < parents.size(); ++rank) {
    EXPECT_OK(
        ncclCommSplit(parents[rank], wishes[rank].color, wishes[rank].key, &made[rank], nullptr));
  }
  EXPECT_OK(ncclGroupEnd());
  for (size_t rank = 0; rank < parents.size(); ++rank) {
    if (wishes[rank].color == NCCL_SPLIT_NOCOLOR) {
      EXPECT_EQ(made[rank], nullptr);
      continue;
    }
    std::vector<std::tuple<int, size_t>> members;
    for (size_t other = 0; other < parents.size(); ++other) {
      if (wishes[other].color == wishes[rank].color) members.emplace_back(wishes[other].key, other);
    }
    std::ranges::sort(members);
    const auto place = std::ranges::find(members, std::tuple(wishes[rank].key, rank));
    int number = -1, count = -1;
    EXPECT_OK(ncclCommUserRank(made[rank], &number));
    EXPECT_OK(ncclCommCount(made[rank], &count));
    EXPECT_EQ(number, place - members.begin()) << "parent's rank " << rank;
    EXPECT_EQ(count, static_cast<int>(members.size()));
  }
  return made;
}

// Every communicator that was made sums ones to its size, all in one group.
void expect_sound(const std::vector<ncclComm_t>& comms) {
  std::vector<float> values(comms.size(), 1.0f);
  EXPECT_OK(ncclGroupStart());
  for (size_t i = 0; i < comms.size(); ++i) {
    if (comms[i] == nullptr) continue;
    EXPECT_OK(ncclAllReduce(&values[i], &values[i], 1, ncclFloat32, ncclSum, comms[i], nullptr));
  }
  EXPECT_OK(ncclGroupEnd());
  for (size_t i = 0; i < comms.size(); ++i) {
    int count = 1;
    if (comms[i] != nullptr) {
      EXPECT_OK(ncclCommCount(comms[i], &count));
    }
    EXPECT_EQ(values[i], static_cast<float>(count));
  }
}

void destroy(const std::vector<ncclComm_t>& comms) {
  for (const ncclComm_t comm : comms) EXPECT_OK(ncclCommDestroy(comm));
}

TEST(Split, RandomColoursAndKeys) {
  std::mt19937 random(7);
  for (int turn = 0; turn < 12; ++turn) {
    SCOPED_TRACE(turn);
    const LocalRanks ranks(static_cast<int>(1 + random() % 6));
    std::vector<Wish> wishes;
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      wishes.push_back({static_cast<int>(random() % 4) - 1, static_cast<int>(random() % 5) - 2});
    }
    const auto made = split(ranks.comms, wishes);
    expect_sound(made);
    ranks.expect_sound();
    destroy(made);
  }
}

TEST(Split, TheLargestNumbers) {
  const LocalRanks ranks(3);
  const auto made = split(ranks.comms, {{INT_MAX, INT_MAX}, {INT_MAX, INT_MIN}, {INT_MAX, 0}});
  expect_sound(made);
  destroy(made);
}

TEST(Split, NobodyHasAColour) {
  const LocalRanks ranks(3);
  split(ranks.comms, {{-1, 0}, {-1, 1}, {-1, 2}});
  ranks.expect_sound();
}

TEST(Split, OfASplitWhoseParentIsGone) {
  LocalRanks ranks(4);
  const auto halves = split(ranks.comms, {{0, 3}, {1, 2}, {0, 1}, {1, 0}});
  for (ncclComm_t& comm : ranks.comms) {
    EXPECT_OK(ncclCommDestroy(comm));
    comm = nullptr;
  }
  expect_sound(halves);
  std::vector<ncclComm_t> alone(4);
  EXPECT_OK(ncclGroupStart());
  for (size_t i = 0; i < 4; ++i)
    EXPECT_OK(ncclCommSplit(halves[i], static_cast<int>(i), 0, &alone[i], nullptr));
  EXPECT_OK(ncclGroupEnd());
  expect_sound(alone);
  destroy(alone);
  destroy(halves);
}

TEST(Split, ManyTimesFromOneParent) {
  const LocalRanks ranks(2);
  std::vector<ncclComm_t> all;
  for (int turn = 0; turn < 10; ++turn) {
    const auto made = split(ranks.comms, {{turn, 0}, {turn, 0}});
    all.insert(all.end(), made.begin(), made.end());
  }
  expect_sound(all);
  destroy(all);
}

std::vector<ncclComm_t> shrink(const std::vector<ncclComm_t>& parents, std::vector<int> excluded,
                               int flags) {
  std::vector<ncclComm_t> made(parents.size(), nullptr);
  EXPECT_OK(ncclGroupStart());
  for (size_t rank = 0; rank < parents.size(); ++rank) {
    if (std::ranges::find(excluded, static_cast<int>(rank)) != excluded.end()) continue;
    EXPECT_OK(ncclCommShrink(parents[rank], excluded.data(), static_cast<int>(excluded.size()),
                             &made[rank], nullptr, flags));
  }
  EXPECT_OK(ncclGroupEnd());
  int expected = 0;
  for (const ncclComm_t comm : made) {
    int number = -1;
    if (comm == nullptr) continue;
    EXPECT_OK(ncclCommUserRank(comm, &number));
    EXPECT_EQ(number, expected++) << "in the old order";
  }
  return made;
}

TEST(Shrink, KeepsTheOrderAndTheParent) {
  const LocalRanks ranks(5);
  for (const auto& excluded :
       std::vector<std::vector<int>>{{0}, {4}, {2}, {1, 3}, {3, 1}, {0, 1, 2, 3}, {2, 2, 2}}) {
    const auto made = shrink(ranks.comms, excluded, NCCL_SHRINK_DEFAULT);
    expect_sound(made);
    destroy(made);
    ranks.expect_sound();
  }
}

TEST(Shrink, TheSameTwice) {
  const LocalRanks ranks(3);
  const auto first = shrink(ranks.comms, {1}, NCCL_SHRINK_DEFAULT);
  const auto second = shrink(ranks.comms, {1}, NCCL_SHRINK_DEFAULT);
  expect_sound(first);
  expect_sound(second);
  destroy(first);
  destroy(second);
}

// Rank 2 never comes; the others have queued a call and go on without it.
TEST(Shrink, WithAbortEndsWhatIsUnderWay) {
  const LocalRanks ranks(3);
  cudaStream_t stream = nullptr;
  EXPECT_OK(slimcclStreamCreate(&stream));
  float x[2] = {1, 1}, y[2] = {0, 0};
  for (size_t rank = 0; rank < 2; ++rank)
    EXPECT_OK(ncclAllReduce(&x[rank], &y[rank], 1, ncclFloat32, ncclSum, ranks[rank], stream));
  const auto made = shrink(ranks.comms, {2}, NCCL_SHRINK_ABORT);
  EXPECT_NE(slimcclStreamSynchronize(stream), ncclSuccess);
  expect_sound(made);
  EXPECT_EQ(ncclAllReduce(&x[0], &y[0], 1, ncclFloat32, ncclSum, ranks[0], nullptr),
            ncclInvalidUsage);
  destroy(made);
  EXPECT_OK(slimcclStreamDestroy(stream));
}

}  // namespace
