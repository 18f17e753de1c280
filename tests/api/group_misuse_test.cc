// Groups that are wrong: what is refused runs nothing at all, and the next group works.
#include "api/refused.h"

namespace {

using slimccl::testing::LocalRanks;
using slimccl::testing::NamedCall;
using slimccl::testing::operations;

ncclComm_t non_blocking() {
  ncclUniqueId id;
  ncclComm_t comm = nullptr;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  EXPECT_OK(ncclGetUniqueId(&id));
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 1, id, 0, &config), ncclInProgress);
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) EXPECT_OK(ncclCommGetAsyncError(comm, &state));
  EXPECT_EQ(state, ncclSuccess);
  return comm;
}

// x of all ranks summed into y of all ranks.
struct Sum {
  explicit Sum(const LocalRanks& over) : ranks(over), x(over.size(), 1.0f), y(over.size(), 0.0f) {}
  void call() {
    for (size_t rank = 0; rank < ranks.size(); ++rank)
      EXPECT_OK(ncclAllReduce(&x[rank], &y[rank], 1, ncclFloat32, ncclSum, ranks[rank], nullptr));
  }
  void expect_not_run() const {
    for (const float value : y) EXPECT_EQ(value, 0.0f);
  }
  void expect_run() const {
    for (const float value : y) EXPECT_EQ(value, static_cast<float>(ranks.size()));
  }

  const LocalRanks& ranks;
  std::vector<float> x, y;
};

TEST(GroupMisuse, AnEndWithoutAStart) {
  EXPECT_REFUSED(ncclGroupEnd(), ncclInvalidUsage, "ncclGroupStart");
  EXPECT_REFUSED(ncclGroupSimulateEnd(nullptr), ncclInvalidUsage, "ncclGroupStart");
  EXPECT_OK(ncclGroupStart());
  EXPECT_OK(ncclGroupEnd());
  EXPECT_REFUSED(ncclGroupEnd(), ncclInvalidUsage, "ncclGroupStart");
}

TEST(GroupMisuse, AnArgumentErrorSpoilsTheGroupAndNotTheNext) {
  const LocalRanks ranks(2);
  const volatile int no_type = 77;
  for (const NamedCall& bad : operations(static_cast<ncclDataType_t>(no_type))) {
    SCOPED_TRACE(bad.name);
    Sum before(ranks), after(ranks);
    EXPECT_OK(ncclGroupStart());
    before.call();
    EXPECT_REFUSED(bad.call(ranks[1]), ncclInvalidArgument, "77");
    after.call();
    EXPECT_REFUSED(ncclGroupEnd(), ncclInvalidArgument, bad.name);
    before.expect_not_run();
    after.expect_not_run();
    ranks.expect_sound();
  }
}

TEST(GroupMisuse, TheFirstErrorIsTheGroups) {
  const LocalRanks ranks(2);
  float x = 0;
  EXPECT_OK(ncclGroupStart());
  EXPECT_EQ(ncclSend(&x, 1, ncclFloat32, 9, ranks[0], nullptr), ncclInvalidArgument);
  EXPECT_EQ(ncclRecv(nullptr, 1, ncclFloat32, 1, ranks[0], nullptr), ncclInvalidArgument);
  EXPECT_REFUSED(ncclGroupEnd(), ncclInvalidArgument, "ncclSend");
  ranks.expect_sound();
}

TEST(GroupMisuse, AnErrorInsideNestedGroupsIsTheOutermosts) {
  const LocalRanks ranks(2);
  Sum sum(ranks);
  float x = 0;
  EXPECT_OK(ncclGroupStart());
  sum.call();
  EXPECT_OK(ncclGroupStart());
  EXPECT_EQ(ncclSend(&x, 1, ncclFloat32, -1, ranks[0], nullptr), ncclInvalidArgument);
  EXPECT_OK(ncclGroupEnd()) << "an inner end runs nothing";
  sum.expect_not_run();
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidArgument);
  sum.expect_not_run();
  ranks.expect_sound();
}

TEST(GroupMisuse, NestedGroupsRunAtTheOutermostEnd) {
  const LocalRanks ranks(3);
  Sum sum(ranks);
  EXPECT_OK(ncclGroupStart());
  EXPECT_OK(ncclGroupStart());
  sum.call();
  EXPECT_OK(ncclGroupEnd());
  sum.expect_not_run();
  EXPECT_OK(ncclGroupEnd());
  sum.expect_run();
}

TEST(GroupMisuse, BlockingAndNonBlockingTogether) {
  const LocalRanks ranks(2);
  const ncclComm_t polled = non_blocking();
  Sum sum(ranks);
  float x = 1, y = 0;
  EXPECT_OK(ncclGroupStart());
  sum.call();
  EXPECT_OK(ncclAllReduce(&x, &y, 1, ncclFloat32, ncclSum, polled, nullptr));
  EXPECT_REFUSED(ncclGroupEnd(), ncclInvalidUsage, "blocking");
  sum.expect_not_run();
  EXPECT_EQ(y, 0);
  ranks.expect_sound();
  EXPECT_EQ(ncclAllReduce(&x, &y, 1, ncclFloat32, ncclSum, polled, nullptr), ncclInProgress);
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) EXPECT_OK(ncclCommGetAsyncError(polled, &state));
  EXPECT_EQ(state, ncclSuccess);
  EXPECT_EQ(y, 1);
  EXPECT_OK(ncclCommDestroy(polled));
}

TEST(GroupMisuse, MakingAndUsingInOneGroup) {
  const LocalRanks ranks(2);
  Sum sum(ranks);
  ncclUniqueId id;
  ncclComm_t made = nullptr;
  EXPECT_OK(ncclGetUniqueId(&id));
  EXPECT_OK(ncclGroupStart());
  sum.call();
  EXPECT_OK(ncclCommInitRank(&made, 1, id, 0));
  EXPECT_REFUSED(ncclGroupEnd(), ncclInvalidUsage, "group for each");
  EXPECT_EQ(made, nullptr);
  sum.expect_not_run();
  ranks.expect_sound();
}

TEST(GroupMisuse, ANewCommunicatorCannotBeUsedInTheGroupThatMakesIt) {
  ncclUniqueId id;
  ncclComm_t made = nullptr;
  float x = 1;
  int number = 0;
  EXPECT_OK(ncclGetUniqueId(&id));
  EXPECT_OK(ncclGroupStart());
  EXPECT_OK(ncclCommInitRank(&made, 1, id, 0));
  EXPECT_EQ(ncclCommCount(made, &number), ncclInvalidArgument) << "before the group's end";
  EXPECT_EQ(ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, made, nullptr), ncclInvalidArgument);
  EXPECT_EQ(ncclGroupEnd(), ncclInvalidArgument);
  EXPECT_EQ(made, nullptr);
  LocalRanks(1).expect_sound();
}

TEST(GroupMisuse, ABadMakingUndoesTheOthers) {
  ncclUniqueId id;
  ncclComm_t first = nullptr, second = nullptr;
  EXPECT_OK(ncclGetUniqueId(&id));
  EXPECT_OK(ncclGroupStart());
  EXPECT_OK(ncclCommInitRank(&first, 1, id, 0));
  EXPECT_EQ(ncclCommInitRank(&second, 0, id, 0), ncclInvalidArgument);
  EXPECT_REFUSED(ncclGroupEnd(), ncclInvalidArgument, "ncclCommInitRank");
  EXPECT_EQ(first, nullptr);
  EXPECT_EQ(second, nullptr);
  LocalRanks(2).expect_sound();
}

TEST(GroupMisuse, AMessageToOneselfNeedsBothEnds) {
  const LocalRanks ranks(2);
  float x = 1, y = 0;
  EXPECT_REFUSED(ncclSend(&x, 1, ncclFloat32, 0, ranks[0], nullptr), ncclInvalidUsage, "itself");
  EXPECT_REFUSED(ncclRecv(&x, 1, ncclFloat32, 0, ranks[0], nullptr), ncclInvalidUsage, "itself");
  EXPECT_OK(ncclGroupStart());
  EXPECT_OK(ncclSend(&x, 1, ncclFloat32, 0, ranks[0], nullptr));
  EXPECT_OK(ncclRecv(&y, 0, ncclFloat32, 0, ranks[0], nullptr));
  EXPECT_REFUSED(ncclGroupEnd(), ncclInvalidArgument, "itself 4 bytes and receives 0");
  ranks.expect_sound();
}

TEST(GroupMisuse, SimulationRunsNothing) {
  const LocalRanks ranks(2);
  Sum sum(ranks);
  ncclSimInfo_t info = NCCL_SIM_INFO_INITIALIZER;
  EXPECT_OK(ncclGroupStart());
  sum.call();
  EXPECT_OK(ncclGroupSimulateEnd(&info));
  EXPECT_GT(info.estimatedTime, 0.0f);
  sum.expect_not_run();
  EXPECT_REFUSED(ncclGroupEnd(), ncclInvalidUsage, "ncclGroupStart");
  EXPECT_OK(ncclGroupStart());
  EXPECT_OK(ncclGroupSimulateEnd(&info)) << "an empty group";
  ncclSimInfo_t raw{};
  EXPECT_OK(ncclGroupStart());
  EXPECT_REFUSED(ncclGroupSimulateEnd(&raw), ncclInvalidArgument, "NCCL_SIM_INFO_INITIALIZER");
  EXPECT_OK(ncclGroupStart());
  float x = 0;
  EXPECT_EQ(ncclSend(&x, 1, ncclFloat32, 7, ranks[0], nullptr), ncclInvalidArgument);
  EXPECT_EQ(ncclGroupSimulateEnd(&info), ncclInvalidArgument);
  ranks.expect_sound();
}

TEST(GroupMisuse, PreMulSumDestroyedBeforeTheEnd) {
  const LocalRanks ranks(2);
  for (const auto residence : {ncclScalarHostImmediate, ncclScalarDevice}) {
    float x[2] = {1, 10}, y[2] = {0, 0}, scalars[2] = {2, 3};
    EXPECT_OK(ncclGroupStart());
    for (size_t rank = 0; rank < 2; ++rank) {
      ncclRedOp_t op;
      EXPECT_OK(ncclRedOpCreatePreMulSum(&op, &scalars[rank], ncclFloat32, residence, ranks[rank]));
      EXPECT_OK(ncclAllReduce(&x[rank], &y[rank], 1, ncclFloat32, op, ranks[rank], nullptr));
      EXPECT_OK(ncclRedOpDestroy(op, ranks[rank]));
    }
    scalars[0] = 7;  // read at creation, or as late as it can be
    EXPECT_OK(ncclGroupEnd());
    const float expected = residence == ncclScalarDevice ? 37.0f : 32.0f;
    EXPECT_EQ(y[0], expected);
    EXPECT_EQ(y[1], expected);
  }
}

TEST(GroupMisuse, ADestroyedCommunicatorInAGroup) {
  LocalRanks ranks(2);
  LocalRanks gone(2);
  float x[2] = {1, 1};
  EXPECT_OK(ncclGroupStart());
  for (size_t rank = 0; rank < 2; ++rank)
    EXPECT_OK(ncclAllReduce(&x[rank], &x[rank], 1, ncclFloat32, ncclSum, gone[rank], nullptr));
  for (ncclComm_t& comm : gone.comms) {
    EXPECT_OK(ncclCommAbort(comm));
    comm = nullptr;
  }
  EXPECT_NE(ncclGroupEnd(), ncclSuccess);
  EXPECT_EQ(x[0], 1.0f);
  ranks.expect_sound();
}

// InitAll opens a group of its own: an error in it must not leave that open.
TEST(GroupMisuse, AFailedInitAllLeavesNoGroupOpen) {
  ncclComm_t comms[2];
  EXPECT_EQ(ncclCommInitAll(comms, 0, nullptr), ncclInvalidArgument);
  EXPECT_EQ(ncclCommInitAll(nullptr, 2, nullptr), ncclInvalidArgument);
  EXPECT_REFUSED(ncclGroupEnd(), ncclInvalidUsage, "ncclGroupStart");
}

}  // namespace
