// Ranks as threads of this process, each with its communicator, for tests of the C API.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

#include "slimccl/nccl.h"

namespace slimccl::testing {

// Runs body(rank, comm) on `ranks` threads and joins them. body destroys or aborts its communicator
// itself if it wants; what is left alive is destroyed here.
inline void with_ranks(int ranks, const std::function<void(int rank, ncclComm_t& comm)>& body) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess) << ncclGetLastError(nullptr);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      ncclComm_t comm = nullptr;
      ASSERT_EQ(ncclCommInitRank(&comm, ranks, id, rank), ncclSuccess) << ncclGetLastError(nullptr);
      body(rank, comm);
      if (comm != nullptr) {
        EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess) << ncclGetLastError(nullptr);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace slimccl::testing
