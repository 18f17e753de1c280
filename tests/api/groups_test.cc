// Groups: nothing runs before the outermost end, then all of it as one.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "api/ranks.h"
#include "slimccl/slimccl.h"

namespace slimccl::testing {
namespace {

#define EXPECT_OK(call) EXPECT_EQ(call, ncclSuccess) << ncclGetLastError(nullptr)

std::string last_error() { return ncclGetLastError(nullptr); }

TEST(Groups, NothingRunsBeforeTheOutermostEnd) {
  with_ranks(2, [](int, ncclComm_t& comm) {
    int x = 1, y = 1;
    EXPECT_OK(ncclGroupStart());
    EXPECT_OK(ncclAllReduce(&x, &x, 1, ncclInt32, ncclSum, comm, nullptr));
    EXPECT_OK(ncclGroupStart());
    EXPECT_OK(ncclAllReduce(&y, &y, 1, ncclInt32, ncclSum, comm, nullptr));
    EXPECT_OK(ncclGroupEnd());
    EXPECT_EQ(x + y, 2);
    slimcclStats_t stats{.size = sizeof stats};
    EXPECT_OK(slimcclGetStats(comm, &stats));
    EXPECT_EQ(stats.calls, 0u);
    EXPECT_OK(ncclGroupEnd());
    EXPECT_EQ(x + y, 4);
  });
}

// One thread holds all ranks: only a group can do that.
TEST(Groups, OneThreadDrivesManyRanks) {
  constexpr int kRanks = 4;
  ncclComm_t comms[kRanks];
  ASSERT_EQ(ncclCommInitAll(comms, kRanks, nullptr), ncclSuccess) << last_error();
  std::vector<int> x(kRanks, 1);
  EXPECT_OK(ncclGroupStart());
  for (int rank = 0; rank < kRanks; ++rank)
    EXPECT_OK(ncclAllReduce(&x[rank], &x[rank], 1, ncclInt32, ncclSum, comms[rank], nullptr));
  EXPECT_OK(ncclGroupEnd());
  EXPECT_EQ(x, std::vector<int>(kRanks, kRanks));
  ncclComm_t halves[kRanks];
  EXPECT_OK(ncclGroupStart());
  for (int rank = 0; rank < kRanks; ++rank)
    EXPECT_OK(ncclCommSplit(comms[rank], rank % 2, -rank, &halves[rank], nullptr));
  EXPECT_OK(ncclGroupEnd());
  for (int rank = 0; rank < kRanks; ++rank) {
    int place = -1;
    EXPECT_OK(ncclCommUserRank(halves[rank], &place));
    EXPECT_EQ(place, rank < 2 ? 1 : 0) << "the smaller key comes first";
    EXPECT_OK(ncclCommDestroy(halves[rank]));
    EXPECT_OK(ncclCommDestroy(comms[rank]));
  }
}

// The order of calls on one rank is not that of the other, but for the collectives: a group is one
// operation.
TEST(Groups, CollectivesAndMessagesMix) {
  with_ranks(2, [](int rank, ncclComm_t& comm) {
    std::vector<int> sum(1000, rank + 1), sent(200'000, rank), got(200'000, -1), word(7, rank);
    EXPECT_OK(ncclGroupStart());
    if (rank == 0) {
      EXPECT_OK(ncclSend(sent.data(), sent.size(), ncclInt32, 1, comm, nullptr));
      EXPECT_OK(
          ncclAllReduce(sum.data(), sum.data(), sum.size(), ncclInt32, ncclProd, comm, nullptr));
      EXPECT_OK(ncclRecv(got.data(), got.size(), ncclInt32, 1, comm, nullptr));
      EXPECT_OK(ncclBcast(word.data(), word.size(), ncclInt32, 1, comm, nullptr));
    } else {
      EXPECT_OK(ncclRecv(got.data(), got.size(), ncclInt32, 0, comm, nullptr));
      EXPECT_OK(ncclSend(sent.data(), sent.size(), ncclInt32, 0, comm, nullptr));
      EXPECT_OK(
          ncclAllReduce(sum.data(), sum.data(), sum.size(), ncclInt32, ncclProd, comm, nullptr));
      EXPECT_OK(ncclBcast(word.data(), word.size(), ncclInt32, 1, comm, nullptr));
    }
    EXPECT_OK(ncclGroupEnd());
    EXPECT_EQ(sum, std::vector<int>(1000, 2));
    EXPECT_EQ(got, std::vector<int>(200'000, 1 - rank));
    EXPECT_EQ(word, std::vector<int>(7, 1));
  });
}

TEST(Groups, AnArgumentErrorIsReturnedAtOnceAndSpoilsTheGroup) {
  with_ranks(2, [](int, ncclComm_t& comm) {
    int x = 1;
    EXPECT_OK(ncclGroupStart());
    EXPECT_OK(ncclAllReduce(&x, &x, 1, ncclInt32, ncclSum, comm, nullptr));
    EXPECT_EQ(ncclAllReduce(&x, nullptr, 1, ncclInt32, ncclSum, comm, nullptr),
              ncclInvalidArgument);
    EXPECT_EQ(ncclGroupEnd(), ncclInvalidArgument);
    EXPECT_NE(last_error().find("ncclAllReduce"), std::string::npos) << last_error();
    EXPECT_NE(last_error().find("recvbuff is null"), std::string::npos) << last_error();
    EXPECT_EQ(x, 1) << "nothing of the group was run";
    EXPECT_OK(ncclAllReduce(&x, &x, 1, ncclInt32, ncclSum, comm, nullptr));
    EXPECT_EQ(x, 2) << "the next call is none of that group";
  });
}

TEST(Groups, AnEndWithoutAStartIsAnError) {
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
  EXPECT_NE(last_error().find("ncclGroupStart"), std::string::npos) << last_error();
  EXPECT_EQ(ncclGroupSimulateEnd(nullptr), ncclInvalidUsage);
  EXPECT_OK(ncclGroupStart());
  EXPECT_OK(ncclGroupEnd());
}

TEST(Groups, MakingAndCommunicatingDoNotMix) {
  with_ranks(1, [](int, ncclComm_t& comm) {
    ncclUniqueId id;
    EXPECT_OK(ncclGetUniqueId(&id));
    ncclComm_t made = comm;
    int x = 1;
    EXPECT_OK(ncclGroupStart());
    EXPECT_OK(ncclAllReduce(&x, &x, 1, ncclInt32, ncclSum, comm, nullptr));
    EXPECT_OK(ncclCommInitRank(&made, 1, id, 0));
    EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
    EXPECT_EQ(made, nullptr);
  });
}

TEST(Groups, ASimulatedEndRunsNothingAndEstimates) {
  with_ranks(2, [](int, ncclComm_t& comm) {
    int x = 1;
    ncclSimInfo_t info = NCCL_SIM_INFO_INITIALIZER;
    EXPECT_OK(ncclGroupStart());
    EXPECT_OK(ncclAllReduce(&x, &x, 1, ncclInt32, ncclSum, comm, nullptr));
    EXPECT_OK(ncclGroupSimulateEnd(&info));
    EXPECT_EQ(x, 1);
    EXPECT_GT(info.estimatedTime, 0.0f);
    EXPECT_OK(ncclAllReduce(&x, &x, 1, ncclInt32, ncclSum, comm, nullptr));
    EXPECT_EQ(x, 2);
    info.magic = 1;
    EXPECT_OK(ncclGroupStart());
    EXPECT_EQ(ncclGroupSimulateEnd(&info), ncclInvalidArgument);
  });
}

TEST(Groups, ManyCommunicatorsInOneGroupInAnyOrder) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  with_ranks(2, [&](int rank, ncclComm_t& first) {
    ncclComm_t second = nullptr;
    ASSERT_EQ(ncclCommInitRank(&second, 2, id, rank), ncclSuccess) << last_error();
    int x = 1, y = 1;
    EXPECT_OK(ncclGroupStart());
    EXPECT_OK(ncclAllReduce(&x, &x, 1, ncclInt32, ncclSum, rank == 0 ? first : second, nullptr));
    EXPECT_OK(ncclAllReduce(&y, &y, 1, ncclInt32, ncclSum, rank == 0 ? second : first, nullptr));
    EXPECT_OK(ncclGroupEnd());
    EXPECT_EQ(x + y, 4);
    EXPECT_OK(ncclCommDestroy(second));
  });
}

}  // namespace
}  // namespace slimccl::testing
