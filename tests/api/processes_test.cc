// The C API with ranks as processes on pretended nodes (SLIMCCL_NODE_ID): time-outs, settings that
// differ, forks, slow and dead peers. Every wait is bounded.
#include "api/processes.h"

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
      if (result != ncclRemoteError || !says("made no progress") || !says("rank 1"))
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

TEST(Processes, TheWatchdogEndsALonelyCallBetweenNodes) {
  watchdog_ends_a_lonely_call(own_node, "3");
}
TEST(Processes, TheWatchdogEndsALonelyCallInANode) {
  watchdog_ends_a_lonely_call(same_node, "0.5");
}

TEST(Processes, OneRanksBadSettingIsToldToAllAtOnce) {
  for (const auto& [variable, value] :
       std::vector<std::pair<std::string, std::string>>{{"SLIMCCL_WINDOW", "0"},
                                                        {"SLIMCCL_ALGO", "all_gather=ring"},
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

// The operation's number in the wire tag wraps at 2^16.
TEST(Processes, MoreCallsThanTheTagHasNumbersFor) {
  Processes two(2, same_node, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, 2, id, rank) != ncclSuccess) return complain();
    for (int call = 0; call < 66'000; ++call) {
      if (sum_ones(comm, 2) != kRight) return kWrong;
    }
    return ncclCommDestroy(comm) == ncclSuccess ? kRight : complain();
  });
  EXPECT_EQ(two.wait(0, 120), kRight);
  EXPECT_EQ(two.wait(1, 120), kRight);
}

}  // namespace
