// Ranks as threads of this process, each with a device of the emulated driver, for tests of calls
// on CUDA memory. SLIMCCL_STAGING_MB=1 in the tests' environment makes many pieces of larger calls.
#pragma once

#include <atomic>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cuda/gpu.h"
#include "quant/codec.h"
#include "slimccl/nccl.h"

namespace slimccl::device::testing {

inline cudaStream_t handle(CUstream stream) { return reinterpret_cast<cudaStream_t>(stream); }
inline std::string last_error() { return ncclGetLastError(nullptr); }

#define SLIMCCL_OK(call) ASSERT_EQ(call, ncclSuccess) << last_error()

// A device's primary context, current in this thread while it lives.
class OnDevice {
 public:
  explicit OnDevice(int device) : device_(device) {
    CUcontext context = nullptr;
    driver().cuDevicePrimaryCtxRetain(&context, device);
    driver().cuCtxSetCurrent(context);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() {
    (void)driver().cuCtxSetCurrent.result(nullptr);
    (void)driver().cuDevicePrimaryCtxRelease.result(device_);
  }

 private:
  int device_;
};

struct GpuRank {
  int rank, ranks;
  ncclComm_t comm;  // of this rank's device; null it if the test ends it itself
  ncclComm_t host;  // of the same ranks, of host memory: made with no device current
};

// Device `rank` is current in body.
inline void with_gpus(int ranks, const std::function<void(GpuRank&)>& body) {
  ncclUniqueId id, host_id;
  (void)driver();  // loaded, as a program that uses CUDA has it
  SLIMCCL_OK(ncclGetUniqueId(&id));
  SLIMCCL_OK(ncclGetUniqueId(&host_id));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      GpuRank self{rank, ranks, nullptr, nullptr};
      SLIMCCL_OK(ncclCommInitRank(&self.host, ranks, host_id, rank));
      const OnDevice current(rank);
      SLIMCCL_OK(ncclCommInitRank(&self.comm, ranks, id, rank));
      body(self);
      if (self.comm != nullptr) {
        EXPECT_EQ(ncclCommDestroy(self.comm), ncclSuccess) << last_error();
      }
      EXPECT_EQ(ncclCommDestroy(self.host), ncclSuccess) << last_error();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Bytes that are ordinary numbers in every type: each is below 0x40.
inline std::vector<std::byte> numbers(size_t bytes, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> values(bytes);
  for (std::byte& value : values) value = static_cast<std::byte>(random() % 0x40);
  return values;
}

// Holds a stream back until it is let go, as long computation ahead of a call does.
class Hold {
 public:
  explicit Hold(CUstream stream) : word_(sizeof(uint32_t)) {
    *word_.as<uint32_t>() = 0;
    driver().cuStreamWaitValue32(stream, reinterpret_cast<CUdeviceptr>(word_.as<uint32_t>()), 1,
                                 CU_STREAM_WAIT_VALUE_EQ);
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() { let_go(); }
  void let_go() { std::atomic_ref<uint32_t>(*word_.as<uint32_t>()).store(1); }

 private:
  PinnedMemory word_;
};

}  // namespace slimccl::device::testing
