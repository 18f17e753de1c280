// nccl_device.h's host half and the later names: teams, and refusals that say what to do instead.
#include <string>

#include "api/ranks.h"
#include "slimccl/nccl_device.h"

namespace {

using slimccl::testing::with_ranks;

bool same(const ncclTeam_t& a, const ncclTeam_t& b) {
  return a.nRanks == b.nRanks && a.rank == b.rank && a.stride == b.stride;
}

TEST(Team, OneNodeIsOneTeam) {
  with_ranks(3, [](int rank, ncclComm_t& comm) {
    EXPECT_TRUE(same(ncclTeamWorld(comm), {3, rank, 1}));
    EXPECT_TRUE(same(ncclTeamLsa(comm), {3, rank, 1}));
    EXPECT_TRUE(same(ncclTeamRail(comm), {1, 0, 3}));
    EXPECT_EQ(ncclTeamRankToWorld(comm, ncclTeamLsa(comm), 2), 2);
  });
}

TEST(Team, ABadCommunicatorHasNoRanks) {
  EXPECT_TRUE(same(ncclTeamWorld(nullptr), {0, 0, 0}));
  EXPECT_EQ(ncclTeamRankToWorld(nullptr, {1, 0, 1}, 0), -1);
  EXPECT_EQ(std::string(ncclGetLastError(nullptr)),
            "ncclTeamRankToWorld: the communicator is null");
}

TEST(Unsupported, SaysItsNameAndWhatToDoInstead) {
  EXPECT_EQ(ncclCommGrow(nullptr, 2, nullptr, 0, nullptr, nullptr), ncclInvalidUsage);
  const std::string text = ncclGetLastError(nullptr);
  EXPECT_EQ(text.find("ncclCommGrow: not supported: "), 0u) << text;
  EXPECT_NE(text.find("ncclCommInitRank"), std::string::npos) << text;
  EXPECT_EQ(ncclLLA2ACalcSlots(1, 1), -1);
  EXPECT_EQ(std::string(ncclGetLastError(nullptr)).find("ncclLLA2ACalcSlots: not supported"), 0u);
}

}  // namespace
