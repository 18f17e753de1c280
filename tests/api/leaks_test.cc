// What a communicator takes, it gives back: memory, descriptors, threads, shared memory. And what a
// fork in the middle of everything does to either process.
#include <atomic>
#include <filesystem>
#include <fstream>

#include "api/processes.h"
#include "slimccl/slimccl.h"

namespace {

using slimccl::testing::Environment;
using slimccl::testing::Processes;

constexpr int kRight = 0, kWrong = 1;

Environment one_node(int) { return {{"SLIMCCL_LOG", "none"}}; }
Environment own_node(int rank) {
  return {{"SLIMCCL_LOG", "none"},
          {"SLIMCCL_ADDRESS", "127.0.0.1"},
          {"SLIMCCL_NODE_ID", "node" + std::to_string(rank)}};
}

size_t entries(const char* folder) {
  const std::filesystem::directory_iterator all(folder);
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

struct Use {
  size_t files = entries("/proc/self/fd"), threads = entries("/proc/self/task");
  size_t shared = entries("/dev/shm"), mib = resident_mib();

  static size_t resident_mib() {
    size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages >> pages;
    return pages * 4096 >> 20;
  }
  void print(const char* when) const {
    fprintf(stderr, "%s: %zu files, %zu threads, %zu in /dev/shm, %zu MiB\n", when, files, threads,
            shared, mib);
  }
};

int complain() {
  fprintf(stderr, "last error: %s\n", ncclGetLastError(nullptr));
  return kWrong;
}

// One communicator's life, by turns: a split or shrink of `parent`, destroyed or aborted.
int one_life(int turn, int rank, int ranks, ncclComm_t parent) {
  ncclComm_t comm = nullptr;
  if (ncclCommSplit(parent, 0, turn % 2 == 0 ? rank : -rank, &comm, nullptr) != ncclSuccess)
    return complain();
  std::vector<float> x(1000, 1.0f);
  cudaStream_t stream;
  if (slimcclStreamCreate(&stream) != ncclSuccess) return complain();
  if (ncclAllReduce(x.data(), x.data(), x.size(), ncclFloat32, ncclSum, comm, stream) !=
          ncclSuccess ||
      slimcclStreamSynchronize(stream) != ncclSuccess)
    return complain();
  if (x[999] != static_cast<float>(ranks)) return kWrong;
  ncclRedOp_t op;  // forgotten by its owner
  float scalar = 1;
  if (ncclRedOpCreatePreMulSum(&op, &scalar, ncclFloat32, ncclScalarHostImmediate, comm) !=
          ncclSuccess ||
      slimcclStreamDestroy(stream) != ncclSuccess)
    return complain();
  return ncclCommDestroy(comm) == ncclSuccess ? kRight : complain();
}

void two_hundred_lives(Environment (*place)(int)) {
  Processes two(2, place, [](int rank, const ncclUniqueId& id) {
    const Use bare;
    ncclComm_t parent;
    if (ncclCommInitRank(&parent, 2, id, rank) != ncclSuccess) return complain();
    for (int turn = 0; turn < 20; ++turn) {
      if (one_life(turn, rank, 2, parent) != kRight) return kWrong;
    }
    const Use before;
    for (int turn = 0; turn < 200; ++turn) {
      if (one_life(turn, rank, 2, parent) != kRight) return kWrong;
    }
    float x = 1;  // nobody is a step behind
    if (ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, parent, nullptr) != ncclSuccess)
      return complain();
    usleep(50'000);
    const Use after;
    const bool right = after.files <= before.files && after.threads <= before.threads &&
                       after.mib <= before.mib + 8;
    if (ncclCommDestroy(parent) != ncclSuccess) return complain();
    usleep(100'000);
    const Use end;
    // UCX's worker and the rendezvous thread stay with the process; nothing else.
    const bool clean = end.threads <= bare.threads + 2 && end.shared <= bare.shared + 8;
    if (right && clean) return kRight;
    bare.print("at first");
    before.print("after 20");
    after.print("after 220");
    end.print("at last");
    return kWrong;
  });
  for (int rank = 0; rank < 2; ++rank) EXPECT_EQ(two.wait(rank, 120), kRight) << rank;
}

TEST(Leaks, TwoHundredCommunicatorsInANode) { two_hundred_lives(one_node); }
TEST(Leaks, TwoHundredCommunicatorsBetweenNodes) { two_hundred_lives(own_node); }

TEST(Leaks, TwoHundredIdsAndInitsAndAborts) {
  Processes one(1, one_node, [](int, const ncclUniqueId&) {
    Use before;
    for (int turn = 0; turn < 220; ++turn) {
      if (turn == 20) before = Use();
      ncclComm_t pair[2];
      if (ncclCommInitAll(pair, 2, nullptr) != ncclSuccess) return complain();
      for (const ncclComm_t comm : pair) {
        if ((turn % 2 == 0 ? ncclCommAbort : ncclCommDestroy)(comm) != ncclSuccess)
          return complain();
      }
      ncclUniqueId unused;
      if (turn % 10 == 0 && ncclGetUniqueId(&unused) != ncclSuccess) return complain();
    }
    usleep(50'000);
    const Use after;
    const bool right = after.files <= before.files + 4 && after.threads <= before.threads &&
                       after.shared <= before.shared && after.mib <= before.mib + 8;
    if (!right) before.print("after 20");
    if (!right) after.print("after 220");
    return right ? kRight : kWrong;
  });
  EXPECT_EQ(one.wait(0, 120), kRight);
}

// The child of a process whose other threads are busy: an error, at once, and a clean exit.
int child_of_a_busy_parent(ncclComm_t comm) {
  float x = 0;
  ncclResult_t state = ncclSuccess;
  if (ncclAllReduce(&x, &x, 1, ncclFloat32, ncclSum, comm, nullptr) != ncclInvalidUsage) return 2;
  if (std::string(ncclGetLastError(comm)).find("fork") == std::string::npos) return 3;
  if (ncclCommGetAsyncError(comm, &state) != ncclInvalidUsage) return 4;
  slimcclStats_t stats{};
  stats.size = sizeof stats;
  if (slimcclGetStats(comm, &stats) != ncclInvalidUsage) return 5;
  if (ncclCommAbort(comm) != ncclInvalidUsage) return 6;
  return 0;
}

int ended_well(pid_t child) {
  int status = 0;
  for (int i = 0; i < 5000; ++i) {
    if (waitpid(child, &status, WNOHANG) == child) {
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return kRight;
      fprintf(stderr, "the child ended with status %x\n", status);
      return kWrong;
    }
    usleep(2000);
  }
  fprintf(stderr, "the child hangs\n");
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return kWrong;
}

void fork_while_busy(Environment (*place)(int)) {
  constexpr int kForks = 30;
  Processes two(2, place, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, 2, id, rank) != ncclSuccess) return complain();
    std::atomic<bool> enough{false}, right{true};
    std::thread busy([&] {  // until both have forked enough
      float sum = 0;
      while (right && sum < 2) {
        const float mine = enough ? 1 : 0;
        if (ncclAllReduce(&mine, &sum, 1, ncclFloat32, ncclSum, comm, nullptr) != ncclSuccess)
          right = complain() == kRight;
      }
    });
    for (int i = 0; i < kForks; ++i) {
      usleep(2000);
      const pid_t child = fork();
      if (child == 0) _exit(child_of_a_busy_parent(comm));
      if (ended_well(child) != kRight) right = false;
    }
    enough = true;
    busy.join();
    return right && ncclCommDestroy(comm) == ncclSuccess ? kRight : kWrong;
  });
  for (int rank = 0; rank < 2; ++rank) EXPECT_EQ(two.wait(rank, 60), kRight) << rank;
}

TEST(Fork, InTheMiddleOfCallsInANode) { fork_while_busy(one_node); }
TEST(Fork, InTheMiddleOfCallsBetweenNodes) { fork_while_busy(own_node); }

}  // namespace
