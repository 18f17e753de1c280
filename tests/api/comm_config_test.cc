// The config structs of other releases' headers, broken ones, and what blocking = 0 means.
#include <cstddef>
#include <cstring>
#include <memory>

#include "api/refused.h"

namespace {

using slimccl::testing::LocalRanks;

ncclResult_t poll(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) EXPECT_OK(ncclCommGetAsyncError(comm, &state));
  return state;
}

ncclResult_t make_alone(ncclComm_t* comm, ncclConfig_t* config) {
  ncclUniqueId id;
  EXPECT_OK(ncclGetUniqueId(&id));
  return ncclCommInitRankConfig(comm, 1, id, 0, config);
}

// A header's struct: its size and version. The bytes that follow it belong to somebody else.
struct Release {
  unsigned int version;
  size_t size;
};

TEST(CommConfig, StructsOfOtherReleases) {
  for (const auto& [version, size] : std::initializer_list<Release>{{21403, 24},
                                                                    {21700, 40},
                                                                    {21805, 48},
                                                                    {22304, 48},
                                                                    {22703, 72},
                                                                    {22809, 80},
                                                                    {22902, 96},
                                                                    {23004, 120}}) {
    SCOPED_TRACE(version);
    for (const int blocking : {0, 1}) {
      const auto bytes = std::make_unique<std::byte[]>(size);
      std::memset(bytes.get(), 0, size);  // names are null in all of them
      const ncclConfig_t first = NCCL_CONFIG_INITIALIZER;
      std::memcpy(bytes.get(), &first, std::min(size, sizeof first));
      auto* const config = reinterpret_cast<ncclConfig_t*>(bytes.get());
      std::memcpy(bytes.get() + offsetof(ncclConfig_t, size), &size, sizeof size);
      std::memcpy(bytes.get() + offsetof(ncclConfig_t, version), &version, sizeof version);
      std::memcpy(bytes.get() + offsetof(ncclConfig_t, blocking), &blocking, sizeof blocking);
      ncclComm_t comm = nullptr;
      EXPECT_EQ(make_alone(&comm, config), blocking == 1 ? ncclSuccess : ncclInProgress)
          << ncclGetLastError(nullptr);
      EXPECT_EQ(poll(comm), ncclSuccess);
      EXPECT_OK(ncclCommDestroy(comm));
    }
  }
}

TEST(CommConfig, BrokenOnes) {
  const LocalRanks ranks(2);
  const auto expect_refused = [&](const char* words, auto&& spoil) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    spoil(config);
    ncclUniqueId id{};
    ncclComm_t comm = ranks[0];
    int excluded = 1;
    const auto bad = ncclInvalidArgument;
    EXPECT_REFUSED(ncclCommInitRankConfig(&comm, 1, id, 0, &config), bad, words);
    EXPECT_REFUSED(ncclCommInitRankScalable(&comm, 1, 0, 1, &id, &config), bad, words);
    EXPECT_REFUSED(ncclCommSplit(ranks[0], 0, 0, &comm, &config), bad, words);
    EXPECT_EQ(comm, nullptr);
    EXPECT_REFUSED(ncclCommShrink(ranks[0], &excluded, 1, &comm, &config, 0), bad, words);
    EXPECT_EQ(comm, nullptr);
  };
  expect_refused("NCCL_CONFIG_INITIALIZER", [](auto& config) { config = ncclConfig_t{}; });
  expect_refused("NCCL_CONFIG_INITIALIZER", [](auto& config) { config.magic ^= 1; });
  for (const size_t size : {0, 1, 8, 16, 19})
    expect_refused("config->size", [&](auto& config) { config.size = size; });
  for (const int blocking : {-1, 2, INT_MAX})
    expect_refused("config->blocking", [&](auto& config) { config.blocking = blocking; });
  ranks.expect_sound();
}

TEST(CommConfig, WhatSteersGpusIsAcceptedAndChangesNothing) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.cgaClusterSize = 99;
  config.minCTAs = config.maxCTAs = config.nvlsCTAs = -7;
  config.netName = "no such network";
  config.splitShare = config.shrinkShare = 5;
  config.trafficClass = config.collnetEnable = config.CTAPolicy = 1;
  config.nChannelsPerNetPeer = config.nvlinkCentricSched = 3;
  ncclComm_t comm = nullptr;
  EXPECT_OK(make_alone(&comm, &config));
  LocalRanks::expect_sound({comm});
  EXPECT_OK(ncclCommDestroy(comm));
}

TEST(CommConfig, TheStructAndItsNameMayGoOnceTheCallHasReturned) {
  auto name = std::make_unique<std::string>("a name that is longer than any short string");
  auto config = std::make_unique<ncclConfig_t>();
  *config = NCCL_CONFIG_INITIALIZER;
  config->blocking = 0;
  config->commName = name->c_str();
  ncclComm_t comm = nullptr;
  EXPECT_EQ(make_alone(&comm, config.get()), ncclInProgress);
  std::memset(config.get(), 0xff, sizeof *config);
  std::memset(name->data(), '?', name->size());
  config.reset();
  name.reset();
  EXPECT_EQ(poll(comm), ncclSuccess);
  EXPECT_OK(ncclCommDestroy(comm));
}

TEST(CommConfig, ANonBlockingFailureIsToldByPolling) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclUniqueId zeros{};
  ncclComm_t comm = nullptr;
  const ncclResult_t started = ncclCommInitRankConfig(&comm, 2, zeros, 0, &config);
  ASSERT_EQ(started, ncclInProgress) << ncclGetLastError(nullptr);
  EXPECT_NE(poll(comm), ncclSuccess);
  EXPECT_NE(std::string(ncclGetLastError(comm)), "");
  float x = 1;
  EXPECT_NE(ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, nullptr), ncclSuccess);
  EXPECT_OK(ncclCommAbort(comm));
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, zeros, 0, &config), ncclInProgress);
  EXPECT_NE(poll(comm), ncclSuccess);
  EXPECT_OK(ncclCommDestroy(comm));
}

// The poller must not take a call that a revoke ended for one that is done.
TEST(CommConfig, ANonBlockingCallThatARevokeEndedIsNoSuccess) {
  const LocalRanks parents(2);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comms[2];
  EXPECT_OK(ncclGroupStart());
  for (size_t rank = 0; rank < 2; ++rank)
    EXPECT_OK(ncclCommSplit(parents[rank], 0, 0, &comms[rank], &config));
  EXPECT_EQ(ncclGroupEnd(), ncclInProgress);
  for (const ncclComm_t comm : comms) EXPECT_EQ(poll(comm), ncclSuccess);
  float x = 1, y = 0;
  EXPECT_EQ(ncclAllReduce(&x, &y, 1, ncclFloat32, ncclSum, comms[0], nullptr), ncclInProgress);
  EXPECT_OK(ncclCommRevoke(comms[0], NCCL_REVOKE_DEFAULT));
  EXPECT_EQ(poll(comms[0]), ncclInvalidUsage);
  EXPECT_NE(std::string(ncclGetLastError(comms[0])).find("ncclCommRevoke"), std::string::npos);
  EXPECT_EQ(y, 0);
  EXPECT_EQ(poll(comms[1]), ncclSuccess);
  for (const ncclComm_t comm : comms) EXPECT_OK(ncclCommDestroy(comm));
}

TEST(CommConfig, ChildrenInheritTheirParentsConfig) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t parent = nullptr, child = nullptr, other = nullptr;
  EXPECT_EQ(make_alone(&parent, &config), ncclInProgress);
  EXPECT_EQ(poll(parent), ncclSuccess);
  EXPECT_EQ(ncclCommSplit(parent, 1, 0, &child, nullptr), ncclInProgress);
  EXPECT_EQ(poll(child), ncclSuccess);
  float x = 1;
  EXPECT_EQ(ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, child, nullptr), ncclInProgress);
  EXPECT_EQ(poll(child), ncclSuccess);
  config.blocking = 1;
  EXPECT_OK(ncclCommSplit(parent, 1, 0, &other, &config));
  EXPECT_OK(ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, other, nullptr));
  for (const ncclComm_t comm : {other, child, parent}) EXPECT_OK(ncclCommDestroy(comm));
}

TEST(CommConfig, DevicesAreWhatInitAllWasGiven) {
  ncclComm_t comms[3];
  const int devices[] = {4, 0, 7};
  EXPECT_OK(ncclCommInitAll(comms, 3, devices));
  for (int rank = 0; rank < 3; ++rank) {
    int device = -2, number = -2;
    EXPECT_OK(ncclCommCuDevice(comms[rank], &device));
    EXPECT_EQ(device, devices[rank]);
    EXPECT_OK(ncclCommUserRank(comms[rank], &number));
    EXPECT_EQ(number, rank);
  }
  LocalRanks::expect_sound({comms[0], comms[1], comms[2]});
  for (const ncclComm_t comm : comms) EXPECT_OK(ncclCommDestroy(comm));
}

}  // namespace
