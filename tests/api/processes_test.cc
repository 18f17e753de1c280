// The C API with ranks as processes on pretended nodes (SLIMCCL_NODE_ID): time-outs, settings that
// differ, forks, slow and dead peers. Every wait is bounded.
#include <algorithm>

#include "api/processes.h"

#include "slimccl/nccl_device.h"
#include "slimccl/slimccl.h"

namespace {

using slimccl::testing::Environment;
using slimccl::testing::Processes;
using std::chrono::steady_clock;

constexpr int kRight = 0, kWrong = 1;

// Rank r on node r.
Environment own_node(int rank) {
  return {{"SLIMCCL_NODE_ID", "node" + std::to_string(rank)}, {"SLIMCCL_LOG", "none"}};
}
Environment same_node(int) { return {{"SLIMCCL_LOG", "none"}}; }

bool says(const char* words) {
  return std::string(ncclGetLastError(nullptr)).find(words) != std::string::npos;
}

int complain() {
  fprintf(stderr, "last error: %s\n", ncclGetLastError(nullptr));
  return kWrong;
}

double seconds_since(steady_clock::time_point start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

int sum_ones(ncclComm_t comm, int ranks) {
  float x = 1;
  if (ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, nullptr) != ncclSuccess)
    return complain();
  return x == static_cast<float>(ranks) ? kRight : kWrong;
}

// Only rank 0 calls. UCX's keepalives are not progress: the deadline holds all the same, and both
// ranks hear of it.
void watchdog_ends_a_lonely_call(Environment (*place)(int), const char* seconds) {
  const auto environment = [&](int rank) {
    Environment all = place(rank);
    all["SLIMCCL_TIMEOUT_S"] = seconds;
    return all;
  };
  Processes two(2, environment, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, 2, id, rank) != ncclSuccess) return complain();
    if (sum_ones(comm, 2) != kRight) return kWrong;
    float x = 1;
    if (rank == 0) {
      const auto result = ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, nullptr);
      if (result != ncclRemoteError || !says("no progress for") || !says("rank 1"))
        return complain();
    } else {
      ncclResult_t error = ncclSuccess;
      for (int i = 0; i < 800 && error == ncclSuccess; ++i) {
        if (ncclCommGetAsyncError(comm, &error) != ncclSuccess) return complain();
        usleep(10'000);
      }
      if (error != ncclRemoteError || !says("rank 0 gave up")) return complain();
    }
    return ncclCommAbort(comm) == ncclSuccess ? kRight : complain();
  });
  EXPECT_EQ(two.wait(0, 20), kRight);
  EXPECT_EQ(two.wait(1, 20), kRight);
}

// Rank 1 made its call all right, behind another communicator's: rank 0 must not read "in no call".
TEST(Processes, TheWatchdogTellsOfACallThatWaitsForItsStream) {
  const auto environment = [](int) {
    return Environment{{"SLIMCCL_TIMEOUT_S", "0.8"}, {"SLIMCCL_LOG", "none"}};
  };
  Processes two(2, environment, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm, ahead;
    cudaStream_t stream;
    float x = 1, y = 1;
    if (ncclCommInitRank(&comm, 2, id, rank) != ncclSuccess) return complain();
    if (ncclCommSplit(comm, 0, 0, &ahead, nullptr) != ncclSuccess) return complain();
    if (slimcclStreamCreate(&stream) != ncclSuccess) return complain();
    if (rank == 0) {
      const auto result = ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, nullptr);
      if (result != ncclRemoteError || !says("waits for others on its stream")) return complain();
    } else {
      usleep(500'000);
      (void)ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, ahead, stream);
      (void)ncclAllReduce(&y, &y, 1, ncclFloat32, ncclSum, comm, stream);
      (void)slimcclStreamSynchronize(stream);
    }
    (void)ncclCommAbort(ahead);
    return ncclCommAbort(comm) == ncclSuccess ? kRight : complain();
  });
  EXPECT_EQ(two.wait(0, 20), kRight);
  EXPECT_EQ(two.wait(1, 20), kRight);
}

TEST(Processes, TheWatchdogEndsALonelyCallBetweenNodes) {
  watchdog_ends_a_lonely_call(own_node, "3");
}
TEST(Processes, TheWatchdogEndsALonelyCallInANode) {
  watchdog_ends_a_lonely_call(same_node, "0.5");
}

TEST(Processes, OneRanksBadSettingIsToldToAllAtOnce) {
  for (const auto& [variable, value] :
       std::vector<std::pair<std::string, std::string>>{{"SLIMCCL_WINDOW", "0"},
                                                        {"SLIMCCL_ALGO", "all_gather=rung"},
                                                        {"SLIMCCL_PROFILE", "fast"}}) {
    const auto environment = [&](int rank) {
      Environment all = same_node(rank);
      if (rank == 1) all[variable] = value;
      return all;
    };
    const auto start = steady_clock::now();
    Processes two(2, environment, [&](int rank, const ncclUniqueId& id) {
      ncclComm_t comm;
      if (ncclCommInitRank(&comm, 2, id, rank) != ncclInvalidUsage) return kWrong;
      return says("rank 1") && says(variable.c_str()) ? kRight : complain();
    });
    EXPECT_EQ(two.wait(0, 20), kRight) << variable;
    EXPECT_EQ(two.wait(1, 20), kRight) << variable;
    EXPECT_LT(seconds_since(start), 15) << variable;
  }
}

TEST(Processes, DifferentProfilesMakeAnExactCommunicator) {
  const auto environment = [&](int rank) {
    Environment all = own_node(rank);
    all["SLIMCCL_PROFILE"] = rank == 0 ? "zeropp" : "exact";
    all["SLIMCCL_FLOOR"] = "0";
    return all;
  };
  Processes two(2, environment, [&](int rank, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, 2, id, rank) != ncclSuccess) return complain();
    std::vector<float> data(100'000, 0.1f);
    if (ncclAllReduce(data.data(), data.data(), data.size(), ncclFloat32, ncclSum, comm, nullptr) !=
        ncclSuccess)
      return complain();
    slimcclStats_t stats{};
    stats.size = sizeof stats;
    if (slimcclGetStats(comm, &stats) != ncclSuccess) return complain();
    if (stats.compressed_calls != 0 || data[77] != 0.2f) return kWrong;
    return ncclCommDestroy(comm) == ncclSuccess ? kRight : complain();
  });
  EXPECT_EQ(two.wait(0, 20), kRight);
  EXPECT_EQ(two.wait(1, 20), kRight);
}

TEST(Processes, ARankThatNeverComesIsNamed) {
  const auto environment = [](int rank) {
    Environment all = same_node(rank);
    all["SLIMCCL_SETUP_TIMEOUT_S"] = "1";
    return all;
  };
  Processes one(1, environment, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, 3, id, rank) != ncclRemoteError) return kWrong;
    return says("1, 2") && says("1 s") ? kRight : complain();
  });
  EXPECT_EQ(one.wait(0, 20), kRight);
}

TEST(Processes, AForkedChildMakesCommunicatorsOfItsOwnAndCannotUseItsParents) {
  Processes one(1, same_node, [](int, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, 1, id, 0) != ncclSuccess || sum_ones(comm, 1) != kRight)
      return complain();
    const pid_t child = fork();
    if (child == 0) {
      float x = 0;
      if (ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, nullptr) != ncclInvalidUsage ||
          !says("fork"))
        _exit(2);
      if (ncclCommDestroy(comm) != ncclInvalidUsage) _exit(3);
      ncclUniqueId own;
      ncclComm_t fresh;
      if (ncclGetUniqueId(&own) != ncclSuccess ||
          ncclCommInitRank(&fresh, 1, own, 0) != ncclSuccess)
        _exit(4);
      _exit(sum_ones(fresh, 1) == kRight && ncclCommDestroy(fresh) == ncclSuccess ? 0 : 5);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      fprintf(stderr, "the child ended with status %d\n", status);
      return kWrong;
    }
    return sum_ones(comm, 1) == kRight && ncclCommDestroy(comm) == ncclSuccess ? kRight
                                                                               : complain();
  });
  EXPECT_EQ(one.wait(0, 30), kRight);
}

TEST(Processes, RanksForkedByAProcessThatUsedTheLibraryMeet) {
  Processes parent(1, same_node, [](int, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, 1, id, 0) != ncclSuccess || ncclCommDestroy(comm) != ncclSuccess)
      return complain();
    Processes two(2, same_node, [](int rank, const ncclUniqueId& shared) {
      ncclComm_t pair;
      if (ncclCommInitRank(&pair, 2, shared, rank) != ncclSuccess) return complain();
      return sum_ones(pair, 2) == kRight && ncclCommDestroy(pair) == ncclSuccess ? kRight : kWrong;
    });
    return two.wait(0, 15) == kRight && two.wait(1, 15) == kRight ? kRight : kWrong;
  });
  EXPECT_EQ(parent.wait(0, 40), kRight);
}

// The operation's number in the wire tag wraps at 2^10.
TEST(Processes, MoreCallsThanTheTagHasNumbersFor) {
  Processes two(2, same_node, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, 2, id, rank) != ncclSuccess) return complain();
    for (int call = 0; call < 5'000; ++call) {
      if (sum_ones(comm, 2) != kRight) return kWrong;
    }
    return ncclCommDestroy(comm) == ncclSuccess ? kRight : complain();
  });
  EXPECT_EQ(two.wait(0, 120), kRight);
  EXPECT_EQ(two.wait(1, 120), kRight);
}

// Two ranks as threads, whose group has messages beside a call that differs. What comes after its
// end would be written into memory that is the caller's again.
int rank_of_a_mismatched_group(ncclComm_t comm, int rank) {
  constexpr size_t kMessages = 64, kBytes = 4 << 20;
  std::vector<char> data(kMessages * kBytes, rank == 1 ? 'x' : '-');
  float x[2] = {}, y[2] = {};
  ncclGroupStart();
  ncclAllReduce(x, y, 1 + static_cast<size_t>(rank), ncclFloat32, ncclSum, comm, nullptr);
  for (size_t i = 0; i < kMessages; ++i) {
    char* const part = data.data() + i * kBytes;
    rank == 1 ? ncclSend(part, kBytes, ncclChar, 0, comm, nullptr)
              : ncclRecv(part, kBytes, ncclChar, 1, comm, nullptr);
  }
  const ncclResult_t code = ncclGroupEnd();
  const auto come = std::ranges::count(data, 'x');
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const bool still = come == std::ranges::count(data, 'x');
  ncclCommAbort(comm);
  return code != ncclSuccess && still ? kRight : kWrong;
}

TEST(Processes, AMismatchBesideMessagesLeavesTheirBuffersAlone) {
  Processes one(
      1,
      [](int) {
        return Environment{{"SLIMCCL_CHECK", "1"}, {"SLIMCCL_LOG", "none"}};
      },
      [](int, const ncclUniqueId&) {
        int result = kRight;
        for (int round = 0; round < 6; ++round) {
          ncclComm_t comms[2];
          if (ncclCommInitAll(comms, 2, nullptr) != ncclSuccess) return complain();
          int results[2];
          std::thread other([&] { results[1] = rank_of_a_mismatched_group(comms[1], 1); });
          results[0] = rank_of_a_mismatched_group(comms[0], 0);
          other.join();
          if (results[0] != kRight || results[1] != kRight) result = kWrong;
        }
        return result;
      });
  EXPECT_EQ(one.wait(0, 60), kRight);
}

Environment impatient(int) { return {{"SLIMCCL_SETUP_TIMEOUT_S", "1"}, {"SLIMCCL_LOG", "none"}}; }

// A rank whose call is refused, while the others wait for it in vain, stays in step with them.
TEST(Processes, ASplitThatOneRankIsRefusedCanBeRepeated) {
  Processes two(2, impatient, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm, part = nullptr;
    if (ncclCommInitRank(&comm, 2, id, rank) != ncclSuccess) return complain();
    const ncclResult_t first = ncclCommSplit(comm, rank == 0 ? -5 : 0, 0, &part, nullptr);
    if (first != (rank == 0 ? ncclInvalidArgument : ncclRemoteError)) return complain();
    if (rank == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    if (ncclCommSplit(comm, 0, 0, &part, nullptr) != ncclSuccess) return complain();
    return sum_ones(part, 2);
  });
  EXPECT_EQ(two.wait(0, 60), kRight);
  EXPECT_EQ(two.wait(1, 60), kRight);
}

TEST(Processes, AShrinkThatOneRankIsRefusedCanBeRepeated) {
  Processes three(3, impatient, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm, part = nullptr;
    if (ncclCommInitRank(&comm, 3, id, rank) != ncclSuccess) return complain();
    const auto nap = [](int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); };
    int excluded = 2;
    if (rank == 2) {
      nap(300);
      return ncclCommAbort(comm) == ncclSuccess ? kRight : complain();
    }
    if (rank == 0) nap(800);  // until it knows of rank 2, as rank 1 does not yet
    if (ncclCommShrink(comm, &excluded, 1, &part, nullptr, NCCL_SHRINK_DEFAULT) == ncclSuccess) {
      return kWrong;
    }
    if (rank == 0) nap(1000);
    if (ncclCommShrink(comm, &excluded, 1, &part, nullptr, NCCL_SHRINK_ABORT) != ncclSuccess)
      return complain();
    return sum_ones(part, 2);
  });
  for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(three.wait(rank, 60), kRight) << rank;
}

// What could not be done aside is told by the parent, which has nothing else to tell it with.
TEST(Processes, ASplitWithoutColourThatFailsIsTold) {
  Processes two(2, impatient, [](int rank, const ncclUniqueId& id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm, none;
    const auto state_of = [&] {
      ncclResult_t state = ncclInProgress;
      while (state == ncclInProgress) (void)ncclCommGetAsyncError(comm, &state);
      return state;
    };
    (void)ncclCommInitRankConfig(&comm, 2, id, rank, &config);
    if (state_of() != ncclSuccess) return complain();
    if (rank == 0) {
      (void)ncclCommSplit(comm, NCCL_SPLIT_NOCOLOR, 0, &none, nullptr);
      if (state_of() != ncclRemoteError) return kWrong;
    } else {
      std::this_thread::sleep_for(std::chrono::seconds(2));
    }
    return ncclCommAbort(comm) == ncclSuccess ? kRight : complain();
  });
  EXPECT_EQ(two.wait(0, 60), kRight);
  EXPECT_EQ(two.wait(1, 60), kRight);
}

TEST(Processes, AForkedChildIsRefusedItsParentsStreams) {
  Processes two(2, same_node, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm;
    cudaStream_t stream, own;
    float x = 1;
    if (ncclCommInitRank(&comm, 2, id, rank) != ncclSuccess) return complain();
    if (slimcclStreamCreate(&stream) != ncclSuccess) return complain();
    if (rank == 1) usleep(500'000);  // until then there is something to wait for
    (void)ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, stream);
    const pid_t child = fork();
    if (child == 0) {
      alarm(10);
      const bool refused = slimcclStreamSynchronize(stream) == ncclInvalidUsage;
      _exit(refused && slimcclStreamCreate(&own) == ncclSuccess ? kRight : kWrong);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (slimcclStreamSynchronize(stream) != ncclSuccess) return complain();
    return ncclCommDestroy(comm) == ncclSuccess && status == kRight ? kRight : kWrong;
  });
  EXPECT_EQ(two.wait(0, 30), kRight);
  EXPECT_EQ(two.wait(1, 30), kRight);
}

bool same(const ncclTeam_t& a, const ncclTeam_t& b) {
  return a.nRanks == b.nRanks && a.rank == b.rank && a.stride == b.stride;
}

TEST(Processes, TwoNodesAreTwoTeamsAndTwoRails) {
  Processes four(
      4,
      [](int rank) {
        return Environment{{"SLIMCCL_NODE_ID", rank < 2 ? "left" : "right"},
                           {"SLIMCCL_LOG", "none"}};
      },
      [](int rank, const ncclUniqueId& id) {
        ncclComm_t comm;
        if (ncclCommInitRank(&comm, 4, id, rank) != ncclSuccess) return complain();
        const ncclTeam_t lsa = ncclTeamLsa(comm), rail = ncclTeamRail(comm);
        bool right = same(lsa, {2, rank % 2, 1}) && same(rail, {2, rank / 2, 2});
        for (int i = 0; i < 2; ++i) {
          right &= ncclTeamRankToWorld(comm, lsa, i) == rank / 2 * 2 + i;
          right &= ncclTeamRankToWorld(comm, rail, i) == i * 2 + rank % 2;
          right &= ncclTeamRankToLsa(comm, lsa, i) == i;
        }
        if (ncclCommDestroy(comm) != ncclSuccess) return complain();
        return right ? kRight : kWrong;
      });
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(four.wait(rank, 60), kRight) << rank;
}

}  // namespace
