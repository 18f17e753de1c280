// Ranks whose calls do not fit: everybody gets an error in time that says what each side does. With
// SLIMCCL_CHECK=1 before anything is sent, otherwise when the watchdog has had enough.
#include "api/processes.h"

#include "slimccl/slimccl.h"

namespace {

using slimccl::testing::Environment;
using slimccl::testing::Processes;

constexpr int kRight = 0, kWrong = 1;
constexpr int kRanks = 3;
constexpr size_t kRoom = 1 << 16;

struct Buffers {
  std::vector<float> in = std::vector<float>(kRoom, 1.0f), out = std::vector<float>(kRoom, -1.0f);
};

using Body = std::function<ncclResult_t(int rank, ncclComm_t comm, Buffers& buffers)>;

struct Misfit {
  const char* name;
  Body call;                         // rank 1 differs from the others
  std::vector<std::string> checked;  // what SLIMCCL_CHECK says of both sides
};

ncclResult_t message(int rank, ncclComm_t comm, Buffers& b, size_t count, ncclDataType_t type) {
  if (rank == 0) return ncclSend(b.in.data(), 100, ncclFloat32, 1, comm, nullptr);
  if (rank == 1) return ncclRecv(b.out.data(), count, type, 0, comm, nullptr);
  return ncclSuccess;
}

std::vector<Misfit> misfits() {
  return {
      {"count",
       [](int rank, auto comm, auto& b) {
         return ncclAllReduce(b.in.data(), b.out.data(), rank == 1 ? 5000 : 7000, ncclFloat32,
                              ncclSum, comm, nullptr);
       },
       {"ranks 0, 2", "all_reduce of 7000 x fp32", "rank 1", "all_reduce of 5000 x fp32"}},
      {"count zero",
       [](int rank, auto comm, auto& b) {
         return ncclAllGather(b.in.data(), b.out.data(), rank == 1 ? 0 : 10, ncclFloat32, comm,
                              nullptr);
       },
       {"ranks 0, 2", "all_gather of 10 x fp32", "rank 1", "all_gather of 0 x fp32"}},
      {"type",
       [](int rank, auto comm, auto& b) {
         return ncclReduceScatter(b.in.data(), b.out.data(), 64,
                                  rank == 1 ? ncclFloat64 : ncclFloat32, ncclSum, comm, nullptr);
       },
       {"ranks 0, 2", "64 x fp32", "rank 1", "64 x fp64"}},
      {"operation",
       [](int rank, auto comm, auto& b) {
         return ncclAllReduce(b.in.data(), b.out.data(), 9, ncclFloat32,
                              rank == 1 ? ncclMax : ncclSum, comm, nullptr);
       },
       {"ranks 0, 2", "sum", "rank 1", "max"}},
      {"root",
       [](int rank, auto comm, auto& b) {
         return ncclBroadcast(b.in.data(), b.out.data(), 9, ncclFloat32, rank == 1 ? 1 : 0, comm,
                              nullptr);
       },
       {"ranks 0, 2", "root 0", "rank 1", "root 1"}},
      {"order",
       [](int rank, auto comm, auto& b) {
         const auto gather = [&] {
           return ncclAllGather(b.in.data(), b.out.data(), 9, ncclFloat32, comm, nullptr);
         };
         const auto reduce = [&] {
           return ncclReduce(b.in.data(), b.out.data(), 9, ncclFloat32, ncclProd, 2, comm, nullptr);
         };
         const ncclResult_t first = rank == 1 ? reduce() : gather();
         return first != ncclSuccess ? first : rank == 1 ? gather() : reduce();
       },
       {"ranks 0, 2", "all_gather of 9", "rank 1", "reduce of 9 x fp32, prod, root 2"}},
      {"message's count",
       [](int rank, auto comm, auto& b) { return message(rank, comm, b, 200, ncclFloat32); },
       {"rank 0 sends 100 x fp32", "rank 1 receives 200 x fp32"}},
      {"message's type",
       [](int rank, auto comm, auto& b) { return message(rank, comm, b, 100, ncclInt32); },
       {"rank 0 sends 100 x fp32", "rank 1 receives 100 x int32"}},
  };
}

// Ranks 0 and 1 share a node, rank 2 has one of its own; or the other way round.
Environment place(int rank, bool swapped) {
  const int node = swapped ? (rank == 0 ? 0 : 1) : (rank == 2 ? 1 : 0);
  return {{"SLIMCCL_NODE_ID", "node" + std::to_string(node)},
          {"SLIMCCL_ADDRESS", "127.0.0.1"},
          {"SLIMCCL_LOG", "none"}};
}

// Every rank: an error in time, whose text has all the words; abort works.
int one_rank(int rank, const ncclUniqueId& id, const Body& call,
             const std::vector<std::string>& words, bool untouched) {
  ncclComm_t comm;
  if (ncclCommInitRank(&comm, kRanks, id, rank) != ncclSuccess) return kWrong;
  Buffers buffers;
  if (ncclAllReduce(buffers.in.data(), buffers.in.data(), 1, ncclFloat32, ncclMax, comm, nullptr) !=
      ncclSuccess)
    return kWrong;
  usleep(50'000);  // until all are through
  ncclResult_t result = call(rank, comm, buffers);
  // A rank whose own call was done, a send's perhaps, hears of it when it asks.
  for (int i = 0; i < 10'000 && result == ncclSuccess; ++i) {
    if (ncclCommGetAsyncError(comm, &result) != ncclSuccess) return kWrong;
    usleep(1000);
  }
  const std::string text = ncclGetLastError(comm);
  int verdict = kRight;
  if (result == ncclSuccess) verdict = kWrong;
  for (const std::string& word : words) {
    if (text.find(word) == std::string::npos) verdict = kWrong;
  }
  ncclResult_t state = ncclSuccess;
  if (ncclCommGetAsyncError(comm, &state) != ncclSuccess || state == ncclSuccess) verdict = kWrong;
  if (untouched && buffers.out != std::vector<float>(kRoom, -1.0f)) verdict = kWrong;
  if (verdict != kRight) {
    fprintf(stderr, "rank %d: call %d, state %d, text: %s\n", rank, result, state, text.c_str());
  }
  return ncclCommAbort(comm) == ncclSuccess ? verdict : kWrong;
}

TEST(Mismatch, SlimcclCheckNamesBothSidesBeforeAnythingIsSent) {
  for (const Misfit& misfit : misfits()) {
    for (const bool swapped : {false, true}) {
      SCOPED_TRACE(misfit.name);
      const auto environment = [&](int rank) {
        Environment all = place(rank, swapped);
        all["SLIMCCL_CHECK"] = "1";
        return all;
      };
      Processes ranks(kRanks, environment, [&](int rank, const ncclUniqueId& id) {
        return one_rank(rank, id, misfit.call, misfit.checked, true);
      });
      for (int rank = 0; rank < kRanks; ++rank) EXPECT_EQ(ranks.wait(rank, 20), kRight) << rank;
    }
  }
}

TEST(Mismatch, CallsThatFitPassTheCheck) {
  const auto environment = [](int rank) {
    Environment all = place(rank, false);
    all["SLIMCCL_CHECK"] = "1";
    return all;
  };
  Processes ranks(kRanks, environment, [](int rank, const ncclUniqueId& id) {
    ncclComm_t comm;
    if (ncclCommInitRank(&comm, kRanks, id, rank) != ncclSuccess) return kWrong;
    Buffers b;
    bool right = true;
    for (const size_t count : {0, 1, 1000}) {
      right &= ncclAllReduce(b.in.data(), b.out.data(), count, ncclFloat32, ncclSum, comm,
                             nullptr) == ncclSuccess;
      right &= ncclReduce(b.in.data(), b.out.data(), count, ncclFloat64, ncclMax, 2, comm,
                          nullptr) == ncclSuccess;
      right &= ncclBcast(b.in.data(), count, ncclInt8, 1, comm, nullptr) == ncclSuccess;
      right &=
          ncclAlltoAll(b.in.data(), b.out.data(), count, ncclInt32, comm, nullptr) == ncclSuccess;
    }
    if (!right) fprintf(stderr, "rank %d: %s\n", rank, ncclGetLastError(comm));
    return right && ncclCommDestroy(comm) == ncclSuccess ? kRight : kWrong;
  });
  for (int rank = 0; rank < kRanks; ++rank) EXPECT_EQ(ranks.wait(rank, 20), kRight) << rank;
}

// Messages of different calls never meet (runtime/wire_tag.h), even where their sizes are equal: so
// somebody waits, and the watchdog looks who.
TEST(Mismatch, TheWatchdogNamesBothSides) {
  const std::vector<Misfit> waiting = {
      {"operation",
       misfits()[3].call,
       {"ranks 0, 2", "all_reduce of 9 x fp32, sum",
        "rank 1: call 2: all_reduce of 9 x fp32, max"}},
      {"type of equal size",
       [](int rank, auto comm, auto& b) {
         return ncclAllReduce(b.in.data(), b.out.data(), 9, rank == 1 ? ncclInt32 : ncclFloat32,
                              ncclSum, comm, nullptr);
       },
       {"ranks 0, 2", "all_reduce of 9 x fp32", "rank 1: call 2: all_reduce of 9 x int32"}},
      {"count zero", misfits()[1].call, {"all_gather of 10 x fp32", "rank 1: in no call"}},
      {"root",
       misfits()[4].call,
       {"broadcast of 9 x fp32, root 0", "broadcast of 9 x fp32, root 1"}},
      {"order", misfits()[5].call, {"all_gather of 9 x fp32", "rank 1: call 2: reduce of 9"}},
      {"no receive",
       [](int rank, auto comm, auto& b) {
         if (rank == 1)
           return ncclAllReduce(b.in.data(), b.out.data(), 5, ncclFloat32, ncclSum, comm, nullptr);
         return ncclRecv(b.out.data(), 12, ncclFloat32, 1, comm, nullptr);
       },
       {"to receive 48 bytes from rank 1", "rank 1: call 2: all_reduce of 5 x fp32, sum"}},
  };
  for (const Misfit& misfit : waiting) {
    SCOPED_TRACE(misfit.name);
    const auto environment = [&](int rank) {
      Environment all = place(rank, false);
      all["SLIMCCL_TIMEOUT_S"] = "2";
      return all;
    };
    // Rank 0 hosts the rendezvous: the others' news come through it.
    const Body call = [&](int rank, auto comm, auto& buffers) {
      const ncclResult_t result = misfit.call(rank, comm, buffers);
      if (rank == 0) usleep(500'000);
      return result;
    };
    Processes ranks(kRanks, environment, [&](int rank, const ncclUniqueId& id) {
      return one_rank(rank, id, call, misfit.checked, false);
    });
    for (int rank = 0; rank < kRanks; ++rank) EXPECT_EQ(ranks.wait(rank, 20), kRight) << rank;
  }
}

// Of different counts the transports take notice at once, where a message is too long or too short;
// then, too, all ranks are asked, and the answer names both sides.
TEST(Mismatch, DifferentCountsAreAnErrorInTimeOnEveryRank) {
  for (const bool swapped : {false, true}) {
    const auto environment = [&](int rank) {
      Environment all = place(rank, swapped);
      all["SLIMCCL_TIMEOUT_S"] = "2";
      return all;
    };
    Processes ranks(kRanks, environment, [&](int rank, const ncclUniqueId& id) {
      return one_rank(rank, id, misfits()[0].call,
                      {"all_reduce of 7000 x fp32", "all_reduce of 5000 x fp32"}, false);
    });
    for (int rank = 0; rank < kRanks; ++rank) EXPECT_EQ(ranks.wait(rank, 20), kRight) << rank;
  }
}

}  // namespace
