// What the tests of the emulated runtime share. They are linked to it as torch is.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>

#include "cuda/emulated/control.h"

namespace slimccl::cudart::testing {

class CudartTest : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  }
  void TearDown() override {
    if (HasFailure()) {
      std::printf("repeat with SLIMCCL_EMULATED_SEED=%u\n", slimccl_emulated_seed());
    }
    (void)cudaSetDevice(0);
    (void)cudaGetLastError();
  }
};

// Of the current device.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) { EXPECT_EQ(cudaMalloc(&memory_, bytes), cudaSuccess); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory() { EXPECT_EQ(cudaFree(memory_), cudaSuccess); }
  operator void*() const { return memory_; }
  [[nodiscard]] void* get() const { return memory_; }

 private:
  void* memory_ = nullptr;
};

class PinnedMemory {
 public:
  explicit PinnedMemory(size_t bytes) {
    EXPECT_EQ(cudaHostAlloc(&memory_, bytes, cudaHostAllocDefault), cudaSuccess);
  }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  ~PinnedMemory() { EXPECT_EQ(cudaFreeHost(memory_), cudaSuccess); }
  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(memory_);
  }

 private:
  void* memory_ = nullptr;
};

class Stream {
 public:
  explicit Stream(unsigned flags = cudaStreamNonBlocking, int priority = 0) {
    EXPECT_EQ(cudaStreamCreateWithPriority(&stream_, flags, priority), cudaSuccess);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { (void)cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  explicit Event(unsigned flags = cudaEventDisableTiming) {
    EXPECT_EQ(cudaEventCreateWithFlags(&event_, flags), cudaSuccess);
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { (void)cudaEventDestroy(event_); }
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace slimccl::cudart::testing
