// What goes wrong with calls on CUDA memory is told clearly, and leaves no stream waiting.
#include <barrier>

#include "cuda/gpu_ranks.h"
#include "slimccl/slimccl.h"

namespace slimccl::device::testing {
namespace {

constexpr size_t kMany = 300000;

ncclResult_t sum(const DeviceMemory& memory, size_t count, ncclComm_t comm, cudaStream_t stream) {
  return ncclAllReduce(memory.pointer(), memory.pointer(), count, ncclInt32, ncclSum, comm, stream);
}

void expect_refused(ncclResult_t result, const std::vector<std::string>& words) {
  EXPECT_EQ(result, ncclInvalidArgument);
  for (const std::string& word : words)
    EXPECT_NE(last_error().find(word), std::string::npos) << last_error();
}

TEST(StagedFailures, MemoryThatCannotServeIsNamed) {
  ncclComm_t comms[2];
  const OnDevice second(1);
  const DeviceMemory there(64);
  const OnDevice first(0);
  const DeviceMemory here(64);
  SLIMCCL_OK(ncclCommInitAll(comms, 2, nullptr));
  ncclUniqueId id;
  SLIMCCL_OK(ncclGetUniqueId(&id));
  ncclComm_t host;
  driver().cuCtxSetCurrent(nullptr);
  SLIMCCL_OK(ncclCommInitRank(&host, 1, id, 0));
  expect_refused(sum(there, 1, comms[0], nullptr), {"sendbuff", "device 1", "device 0"});
  expect_refused(ncclSend(there.pointer(), 1, ncclInt32, 1, comms[0], nullptr),
                 {"sendbuff", "device 1", "device 0"});
  expect_refused(sum(here, 1, host, nullptr), {"sendbuff", "device 0", "host memory only"});
  cudaStream_t queue;
  SLIMCCL_OK(slimcclStreamCreate(&queue));
  expect_refused(sum(here, 1, comms[0], queue), {"slimcclStreamCreate", "CUDA stream"});
  SLIMCCL_OK(slimcclStreamDestroy(queue));
  for (ncclComm_t comm : {comms[0], comms[1], host}) SLIMCCL_OK(ncclCommDestroy(comm));
}

// Nobody answers: the stream waits in our wait, with pieces that have not even begun.
TEST(StagedFailures, AbortReleasesTheStream) {
  with_gpus(2, [](GpuRank& self) {
    const Stream stream;
    const DeviceMemory memory(kMany * 4);
    if (self.rank == 0) {
      SLIMCCL_OK(sum(memory, kMany, self.comm, handle(stream)));
      EXPECT_EQ(driver().cuStreamQuery.result(stream), CUDA_ERROR_NOT_READY);
    }
    SLIMCCL_OK(ncclCommAbort(self.comm));
    self.comm = nullptr;
    stream.synchronize();
  });
}

TEST(StagedFailures, APeersAbortReleasesTheStreamAndIsTheAsyncError) {
  with_gpus(2, [](GpuRank& self) {
    const Stream stream;
    const DeviceMemory memory(kMany * 4);
    if (self.rank == 1) {
      SLIMCCL_OK(ncclCommAbort(self.comm));
      self.comm = nullptr;
      return;
    }
    const ncclResult_t result = sum(memory, kMany, self.comm, handle(stream));
    EXPECT_TRUE(result == ncclSuccess || result == ncclRemoteError) << last_error();
    stream.synchronize();
    ncclResult_t state = ncclInProgress;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    do {
      SLIMCCL_OK(ncclCommGetAsyncError(self.comm, &state));
    } while (state == ncclSuccess && std::chrono::steady_clock::now() < limit);
    EXPECT_EQ(state, ncclRemoteError);
    EXPECT_EQ(sum(memory, 1, self.comm, handle(stream)), ncclRemoteError);
  });
}

// An aborted communicator's pinned memory is not given to another before its stream is through with
// it: the other would have to wait for that.
TEST(StagedFailures, AnAbortedCommunicatorsStreamHoldsNobodyBack) {
  std::barrier together(2);
  with_gpus(2, [&](GpuRank& self) {
    const Stream stuck, stream;
    const std::vector<int32_t> ones(kMany, 1);
    const DeviceMemory memory(ones.data(), kMany * 4), wild(kMany * 4);
    ncclComm_t next, spare, another;
    SLIMCCL_OK(ncclCommSplit(self.comm, 0, self.rank, &next, nullptr));
    SLIMCCL_OK(ncclCommSplit(self.comm, 0, self.rank, &spare, nullptr));
    SLIMCCL_OK(ncclCommDestroy(spare));  // its memory can be had at once
    Hold hold(stuck);                    // from here on the device pins nothing
    SLIMCCL_OK(sum(wild, kMany, self.comm, handle(stuck)));
    together.arrive_and_wait();
    SLIMCCL_OK(ncclCommAbort(self.comm));
    self.comm = next;
    SLIMCCL_OK(ncclCommSplit(next, 0, self.rank, &another, nullptr));
    SLIMCCL_OK(sum(memory, kMany, another, handle(stream)));
    stream.synchronize();
    hold.let_go();
    stuck.synchronize();
    const auto bytes = memory.read();
    std::vector<int32_t> seen(kMany);
    std::memcpy(seen.data(), bytes.data(), bytes.size());
    EXPECT_EQ(seen, std::vector<int32_t>(kMany, 2));
    SLIMCCL_OK(ncclCommDestroy(another));
  });
}

// A rank whose call is refused must not have its next call matched with the others' present one.
TEST(StagedFailures, ACallThatCudaRefusesFailsOnAllRanks) {
  std::barrier together(2);
  with_gpus(2, [&](GpuRank& self) {
    const Stream stream;
    const std::vector<int32_t> values(64, self.rank == 0 ? 10 : 100);
    const DeviceMemory memory(values.data(), 64 * 4);
    const auto call = [&] { return sum(memory, 64, self.comm, handle(stream)); };
    if (self.rank == 0) {
      SLIMCCL_CONTROL(slimccl_emulated_fail)("cuMemcpyDtoHAsync_v2", 1, 719);
      EXPECT_EQ(call(), ncclUnhandledCudaError);
      SLIMCCL_CONTROL(slimccl_emulated_fail)("cuMemcpyDtoHAsync_v2", 0, 0);
    }
    together.arrive_and_wait();
    if (self.rank == 1) (void)call();
    (void)call();
    stream.synchronize();
    ncclResult_t state = ncclSuccess;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (state == ncclSuccess && std::chrono::steady_clock::now() < limit)
      SLIMCCL_OK(ncclCommGetAsyncError(self.comm, &state));
    EXPECT_NE(state, ncclSuccess);
    together.arrive_and_wait();
    SLIMCCL_OK(ncclCommAbort(self.comm));
    self.comm = nullptr;
  });
}

struct Refusal {
  const char* function;  // in the library
  const char* name;      // in the message
  int times;             // the first call is refused, then the second, ...
};

// Two ranks call; CUDA refuses one call of one of them. Whoever is told aborts, as a trainer does.
void refuse(const Refusal& refusal, int nth) {
  std::barrier together(2);
  std::atomic<int> told{0};
  with_gpus(2, [&](GpuRank& self) {
    const Stream one, other;
    const DeviceMemory memory(kMany * 4), more(64);
    together.arrive_and_wait();
    if (self.rank == 0) SLIMCCL_CONTROL(slimccl_emulated_fail)(refusal.function, nth, 719);
    together.arrive_and_wait();
    SLIMCCL_OK(ncclGroupStart());
    ncclResult_t result = sum(memory, kMany, self.comm, handle(one));
    if (result == ncclSuccess) {
      result = ncclSend(more.pointer(), 1, ncclInt32, 1 - self.rank, self.comm, handle(other));
    }
    if (result == ncclSuccess) {
      result = ncclRecv(more.pointer<std::byte>() + 32, 1, ncclInt32, 1 - self.rank, self.comm,
                        handle(other));
    }
    const ncclResult_t end = ncclGroupEnd();
    if (result == ncclSuccess) result = end;
    const std::string text = last_error();  // of either rank: the process has one
    together.arrive_and_wait();
    if (self.rank == 0) SLIMCCL_CONTROL(slimccl_emulated_fail)(refusal.function, 0, 0);
    together.arrive_and_wait();
    if (result == ncclUnhandledCudaError) {
      ++told;
      EXPECT_NE(text.find(refusal.name), std::string::npos) << text;
      EXPECT_NE(text.find("CUDA_ERROR_LAUNCH_FAILED"), std::string::npos) << text;
      SLIMCCL_OK(ncclCommAbort(self.comm));
      self.comm = nullptr;
    } else {
      EXPECT_TRUE(result == ncclSuccess || result == ncclRemoteError) << text;
    }
    one.synchronize();
    other.synchronize();
  });
  EXPECT_EQ(told, 1) << refusal.function << " " << nth;
}

TEST(StagedFailures, WhatCudaRefusesIsToldAndNoStreamHangs) {
  const Refusal refusals[] = {{"cuPointerGetAttributes", "cuPointerGetAttributes", 3},
                              {"cuCtxGetCurrent", "cuCtxGetCurrent", 3},
                              {"cuEventRecord", "cuEventRecord", 5},
                              {"cuStreamWaitEvent", "cuStreamWaitEvent", 6},
                              {"cuMemcpyDtoHAsync_v2", "cuMemcpyDtoHAsync", 12},
                              {"cuMemcpyHtoDAsync_v2", "cuMemcpyHtoDAsync", 5},
                              {"cuLaunchHostFunc", "cuLaunchHostFunc", 12},
                              {"cuStreamWaitValue32_v2", "cuStreamWaitValue32", 12}};
  for (const Refusal& refusal : refusals) {
    for (int nth = 1; nth <= refusal.times; nth += nth < 4 ? 1 : 4) refuse(refusal, nth);
  }
}

// After the communicator has begun the call: what does not come any more is its failure.
TEST(StagedFailures, ALateRefusalFailsTheCommunicator) {
  with_gpus(1, [](GpuRank& self) {
    const Stream stream;
    const DeviceMemory memory(kMany * 4);
    SLIMCCL_CONTROL(slimccl_emulated_fail)("cuLaunchHostFunc", 6, 719);
    EXPECT_EQ(sum(memory, kMany, self.comm, handle(stream)), ncclUnhandledCudaError);
    stream.synchronize();
    ncclResult_t state = ncclSuccess;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (state == ncclSuccess && std::chrono::steady_clock::now() < limit)
      SLIMCCL_OK(ncclCommGetAsyncError(self.comm, &state));
    EXPECT_EQ(state, ncclUnhandledCudaError);
    EXPECT_NE(last_error().find("cuLaunchHostFunc"), std::string::npos) << last_error();
    SLIMCCL_OK(ncclCommAbort(self.comm));
    self.comm = nullptr;
  });
}

// At set-up, too, and all ranks hear which one it was.
TEST(StagedFailures, NoPinnedMemoryIsToldToAll) {
  ncclComm_t comms[2];
  const OnDevice current(3), second(2);
  const int devices[] = {3, 2};
  SLIMCCL_CONTROL(slimccl_emulated_fail)("cuMemHostAlloc", 1, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(ncclCommInitAll(comms, 2, devices), ncclSystemError);
  SLIMCCL_CONTROL(slimccl_emulated_fail)("cuMemHostAlloc", 0, 0);
  EXPECT_NE(last_error().find("cuMemHostAlloc failed on device"), std::string::npos)
      << last_error();
}

}  // namespace
}  // namespace slimccl::device::testing
