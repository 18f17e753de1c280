// Every name in exports.txt is called once, ncclX and pncclX alike: what is implemented does its
// work, what is refused says so. A name that nothing here calls is a failure.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "slimccl/nccl_device.h"
#include "slimccl/slimccl.h"

namespace {

std::set<std::string>& called() {
  static std::set<std::string> names;
  return names;
}

// One of the two spellings of the interface.
class Names {
 public:
  explicit Names(std::string prefix) : prefix_(std::move(prefix)) {}

  template <class Function>
  Function* find(const char* name) const {
    const std::string full = prefix_ + name;
    called().insert(full);
    void* const symbol = dlsym(RTLD_DEFAULT, full.c_str());
    if (symbol != nullptr) return reinterpret_cast<Function*>(symbol);
    fprintf(stderr, "%s is not exported\n", full.c_str());
    std::abort();
  }

 private:
  std::string prefix_;
};

#define CALL(NAME) (names.find<decltype(nccl##NAME)>(#NAME))
#define EXPECT_OK(call) EXPECT_EQ(call, ncclSuccess) << ncclGetLastError(nullptr)

constexpr int kRanks = 2;
constexpr size_t kCount = 12;

// Two ranks in this process; every collective is one group over both.
class EverySymbol : public ::testing::TestWithParam<const char*> {
 protected:
  using Values = std::vector<float>;

  void SetUp() override {
    EXPECT_OK(CALL(CommInitAll)(comms, kRanks, nullptr));
    for (int rank = 0; rank < kRanks; ++rank) {
      send[rank].assign(kRanks * kCount, static_cast<float>(rank + 1));
      recv[rank].assign(kRanks * kCount, 0.0f);
    }
  }
  void TearDown() override {
    for (ncclComm_t comm : comms) EXPECT_OK(CALL(CommDestroy)(comm));
  }

  // call(rank) of all ranks in one group.
  template <class Call>
  void together(Call&& call) {
    EXPECT_OK(CALL(GroupStart)());
    for (int rank = 0; rank < kRanks; ++rank) EXPECT_OK(call(rank));
    EXPECT_OK(CALL(GroupEnd)());
  }

  void expect_received(int rank, const Values& slots) {
    for (size_t i = 0; i < slots.size() * kCount; ++i)
      ASSERT_EQ(recv[rank][i], slots[i / kCount]) << "rank " << rank << ", element " << i;
  }

  Names names{GetParam()};
  ncclComm_t comms[kRanks]{};
  Values send[kRanks], recv[kRanks];
};

TEST_P(EverySymbol, Library) {
  int version = 0;
  EXPECT_OK(CALL(GetVersion)(&version));
  EXPECT_EQ(version, NCCL_VERSION_CODE);
  EXPECT_STREQ(CALL(GetErrorString)(ncclSuccess), "no error");
  EXPECT_EQ(CALL(GetVersion)(nullptr), ncclInvalidArgument);
  EXPECT_NE(std::string(CALL(GetLastError)(nullptr)).find("version is null"), std::string::npos);
  names.find<void()>("ResetDebugInit")();
  void* memory = nullptr;
  EXPECT_OK(CALL(MemAlloc)(&memory, 100));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 4096, 0u);
  EXPECT_OK(CALL(MemFree)(memory));
}

TEST_P(EverySymbol, MakingCommunicators) {
  ncclUniqueId id;
  ncclComm_t comm = nullptr;
  EXPECT_OK(CALL(GetUniqueId)(&id));
  EXPECT_OK(CALL(CommInitRank)(&comm, 1, id, 0));
  EXPECT_OK(CALL(CommFinalize)(comm));
  EXPECT_OK(CALL(CommDestroy)(comm));
  EXPECT_OK(CALL(GetUniqueId)(&id));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  EXPECT_OK(CALL(CommInitRankConfig)(&comm, 1, id, 0, &config));
  EXPECT_OK(CALL(CommAbort)(comm));
  EXPECT_OK(CALL(GetUniqueId)(&id));
  EXPECT_OK(CALL(CommInitRankScalable)(&comm, 1, 0, 1, &id, nullptr));
  EXPECT_OK(CALL(CommRevoke)(comm, NCCL_REVOKE_DEFAULT));
  EXPECT_OK(CALL(CommDestroy)(comm));
  ncclComm_t halves[kRanks]{};
  together(
      [&](int rank) { return CALL(CommSplit)(comms[rank], 3, -rank, &halves[rank], nullptr); });
  for (int rank = 0; rank < kRanks; ++rank) {
    int now = -1;
    EXPECT_OK(CALL(CommUserRank)(halves[rank], &now));
    EXPECT_EQ(now, kRanks - 1 - rank);
    EXPECT_OK(CALL(CommDestroy)(halves[rank]));
  }
  int excluded = 1;
  EXPECT_OK(CALL(CommShrink)(comms[0], &excluded, 1, &comm, nullptr, NCCL_SHRINK_DEFAULT));
  int count = 0;
  EXPECT_OK(CALL(CommCount)(comm, &count));
  EXPECT_EQ(count, 1);
  EXPECT_OK(CALL(CommDestroy)(comm));
}

TEST_P(EverySymbol, Questions) {
  for (int rank = 0; rank < kRanks; ++rank) {
    int value = -2;
    ncclResult_t error = ncclInternalError;
    EXPECT_OK(CALL(CommCount)(comms[rank], &value));
    EXPECT_EQ(value, kRanks);
    EXPECT_OK(CALL(CommUserRank)(comms[rank], &value));
    EXPECT_EQ(value, rank);
    EXPECT_OK(CALL(CommCuDevice)(comms[rank], &value));
    EXPECT_EQ(value, -1);
    EXPECT_OK(CALL(CommGetAsyncError)(comms[rank], &error));
    EXPECT_EQ(error, ncclSuccess);
    void* handle = nullptr;
    EXPECT_OK(CALL(CommRegister)(comms[rank], send[rank].data(), 4, &handle));
    EXPECT_OK(CALL(CommDeregister)(comms[rank], handle));
    const ncclTeam_t world = CALL(TeamWorld)(comms[rank]);
    EXPECT_EQ(world.nRanks, kRanks);
    EXPECT_EQ(CALL(TeamLsa)(comms[rank]).nRanks, kRanks);
    EXPECT_EQ(CALL(TeamRail)(comms[rank]).nRanks, 1);
    EXPECT_EQ(CALL(TeamRankToWorld)(comms[rank], world, 1), 1);
    EXPECT_EQ(CALL(TeamRankToLsa)(comms[rank], world, 1), 1);
  }
}

TEST_P(EverySymbol, Reductions) {
  together([&](int rank) {
    return CALL(AllReduce)(send[rank].data(), recv[rank].data(), kCount, ncclFloat32, ncclSum,
                           comms[rank], nullptr);
  });
  for (int rank = 0; rank < kRanks; ++rank) expect_received(rank, {3});
  together([&](int rank) {
    return CALL(ReduceScatter)(send[rank].data(), recv[rank].data(), kCount, ncclFloat32, ncclProd,
                               comms[rank], nullptr);
  });
  for (int rank = 0; rank < kRanks; ++rank) expect_received(rank, {2});
  ncclRedOp_t scaled[kRanks];
  for (int rank = 0; rank < kRanks; ++rank) {
    float scalar = 4;
    EXPECT_OK(CALL(RedOpCreatePreMulSum)(&scaled[rank], &scalar, ncclFloat32,
                                         ncclScalarHostImmediate, comms[rank]));
  }
  together([&](int rank) {
    return CALL(Reduce)(send[rank].data(), recv[rank].data(), kCount, ncclFloat32, scaled[rank], 1,
                        comms[rank], nullptr);
  });
  expect_received(0, {2});  // not the root: as it was
  expect_received(1, {12});
  for (int rank = 0; rank < kRanks; ++rank)
    EXPECT_OK(CALL(RedOpDestroy)(scaled[rank], comms[rank]));
}

TEST_P(EverySymbol, Movements) {
  together([&](int rank) {
    return CALL(AllGather)(send[rank].data(), recv[rank].data(), kCount, ncclFloat32, comms[rank],
                           nullptr);
  });
  for (int rank = 0; rank < kRanks; ++rank) expect_received(rank, {1, 2});
  together([&](int rank) {
    return CALL(Broadcast)(send[rank].data(), recv[rank].data(), kCount, ncclFloat32, 1,
                           comms[rank], nullptr);
  });
  for (int rank = 0; rank < kRanks; ++rank) expect_received(rank, {2, 2});
  together([&](int rank) {
    return CALL(AlltoAll)(send[rank].data(), recv[rank].data(), kCount, ncclFloat32, comms[rank],
                          nullptr);
  });
  for (int rank = 0; rank < kRanks; ++rank) expect_received(rank, {1, 2});
  recv[1].assign(kRanks * kCount, 7.0f);
  together([&](int rank) {
    return CALL(Bcast)(recv[rank].data(), kCount, ncclFloat32, 1, comms[rank], nullptr);
  });
  expect_received(0, {7, 2});
  together([&](int rank) {
    return CALL(Gather)(send[rank].data(), recv[rank].data(), kCount, ncclFloat32, 0, comms[rank],
                        nullptr);
  });
  expect_received(0, {1, 2});
  expect_received(1, {7, 7});
  together([&](int rank) {
    return CALL(Scatter)(send[rank].data(), recv[rank].data(), kCount, ncclFloat32, 1, comms[rank],
                         nullptr);
  });
  for (int rank = 0; rank < kRanks; ++rank) expect_received(rank, {2});
}

TEST_P(EverySymbol, PointToPointAndSimulation) {
  const auto swap = [&] {
    for (int rank = 0; rank < kRanks; ++rank) {
      EXPECT_OK(CALL(Send)(send[rank].data(), kCount, ncclFloat32, 1 - rank, comms[rank], nullptr));
      EXPECT_OK(CALL(Recv)(recv[rank].data(), kCount, ncclFloat32, 1 - rank, comms[rank], nullptr));
    }
  };
  EXPECT_OK(CALL(GroupStart)());
  swap();
  ncclSimInfo_t info = NCCL_SIM_INFO_INITIALIZER;
  EXPECT_OK(CALL(GroupSimulateEnd)(&info));
  EXPECT_GT(info.estimatedTime, 0);
  expect_received(0, {0});
  EXPECT_OK(CALL(GroupStart)());
  swap();
  EXPECT_OK(CALL(GroupEnd)());
  expect_received(0, {2});
  expect_received(1, {1});
}

// The last error must be of this very call.
#define EXPECT_REFUSED(NAME, ...)                                                     \
  do {                                                                                \
    EXPECT_EQ(CALL(NAME)(__VA_ARGS__), ncclInvalidUsage) << #NAME;                    \
    const std::string text = ncclGetLastError(nullptr);                               \
    EXPECT_EQ(text.find("nccl" #NAME ": not supported: "), 0u) << #NAME ": " << text; \
  } while (0)

TEST_P(EverySymbol, Refused) {
  ncclUniqueId id{};
  ncclComm_t comm = nullptr;
  ncclWindow_t window = nullptr;
  void* pointer = nullptr;
  float value = 0;
  uint64_t number = 0;
  ncclWaitSignalDesc_t wait{};
  EXPECT_REFUSED(CommGetUniqueId, comms[0], &id);
  EXPECT_REFUSED(CommGrow, comms[0], 3, &id, 2, &comm, nullptr);
  EXPECT_REFUSED(CommSuspend, comms[0], NCCL_SUSPEND_MEM);
  EXPECT_REFUSED(CommResume, comms[0]);
  EXPECT_REFUSED(CommMemStats, comms[0], ncclStatGpuMemTotal, &number);
  EXPECT_REFUSED(CommWindowRegister, comms[0], &value, 4, &window, NCCL_WIN_DEFAULT);
  EXPECT_REFUSED(CommWindowDeregister, comms[0], window);
  EXPECT_REFUSED(WinGetUserPtr, comms[0], window, &pointer);
  EXPECT_REFUSED(PutSignal, &value, 1, ncclFloat32, 1, window, 0, 0, 0, 0, comms[0], nullptr);
  EXPECT_REFUSED(Signal, 1, 0, 0, 0, comms[0], nullptr);
  EXPECT_REFUSED(WaitSignal, 1, &wait, comms[0], nullptr);
  EXPECT_REFUSED(DevCommCreate, comms[0], nullptr, nullptr);
  EXPECT_REFUSED(DevCommDestroy, comms[0], nullptr);
  EXPECT_REFUSED(LsaBarrierCreateRequirement, ncclTeam_t{}, 1, nullptr, nullptr);
  EXPECT_REFUSED(GinBarrierCreateRequirement, comms[0], ncclTeam_t{}, 1, nullptr, nullptr);
  EXPECT_REFUSED(LLA2ACreateRequirement, 1, 1, nullptr, nullptr);
  EXPECT_REFUSED(GetLsaMultimemDevicePointer, window, 0, &pointer);
  EXPECT_REFUSED(GetPeerDevicePointer, window, 0, 1, &pointer);
  EXPECT_EQ(CALL(LLA2ACalcSlots)(1, 1), -1);
}

INSTANTIATE_TEST_SUITE_P(Spellings, EverySymbol, ::testing::Values("nccl", "pnccl"));

TEST(EverySymbolOfOurOwn, StreamsStatsAndExplain) {
  const Names names("slimccl");
  EXPECT_STRNE(names.find<decltype(slimcclVersion)>("Version")(), "");
  ncclComm_t comm = nullptr;
  EXPECT_OK(ncclCommInitAll(&comm, 1, nullptr));
  cudaStream_t stream = nullptr;
  EXPECT_OK(names.find<decltype(slimcclStreamCreate)>("StreamCreate")(&stream));
  float x = 5, y = 0;
  EXPECT_OK(ncclAllReduce(&x, &y, 1, ncclFloat32, ncclSum, comm, stream));
  EXPECT_OK(names.find<decltype(slimcclStreamSynchronize)>("StreamSynchronize")(stream));
  EXPECT_EQ(y, 5);
  EXPECT_OK(names.find<decltype(slimcclStreamQuery)>("StreamQuery")(stream));
  EXPECT_OK(names.find<decltype(slimcclStreamDestroy)>("StreamDestroy")(stream));
  slimcclStats_t stats{};
  stats.size = sizeof stats;
  EXPECT_OK(names.find<decltype(slimcclGetStats)>("GetStats")(comm, &stats));
  EXPECT_EQ(stats.calls, 1u);
  char text[200] = "";
  EXPECT_OK(names.find<decltype(slimcclExplain)>("Explain")(comm, "all_reduce", 10, ncclFloat32,
                                                            text, sizeof text));
  EXPECT_STRNE(text, "");
  EXPECT_OK(ncclCommDestroy(comm));
}

TEST(EverySymbolOfOurOwn, PauseAndStep) {
  const Names names("slimccl");
  auto* const resume = names.find<decltype(slimcclResume)>("Resume");
  EXPECT_OK(names.find<decltype(slimcclPause)>("Pause")());
  EXPECT_OK(resume());
  EXPECT_EQ(resume(), ncclInvalidUsage);
  EXPECT_OK(names.find<decltype(slimcclStep)>("Step")());
}

class AllAreCalled : public ::testing::Environment {
 public:
  void TearDown() override {
    if (::testing::GTEST_FLAG(filter) != "*") return;
    std::ifstream file(EXPORTS);
    size_t names = 0;
    for (std::string name; std::getline(file, name);) {
      if (name.empty() || name.front() == '#') continue;
      ++names;
      EXPECT_TRUE(called().contains(name)) << name << " of exports.txt is called by no test here";
    }
    EXPECT_EQ(names, called().size());
  }
};
const auto* const all_are_called = ::testing::AddGlobalTestEnvironment(new AllAreCalled);

}  // namespace
