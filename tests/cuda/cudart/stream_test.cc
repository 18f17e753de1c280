// The emulated runtime's streams and events. Tests of a rule name the line that keeps it.
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

#include "cuda/cudart/cuda_test.h"

namespace slimccl::cudart::testing {
namespace {

using std::chrono::milliseconds;

// Holds a stream back from its construction to open(). Of a process only one at a time: host
// functions share a thread.
class Gate {
 public:
  explicit Gate(cudaStream_t stream) {
    EXPECT_EQ(cudaLaunchHostFunc(stream, wait, this), cudaSuccess);
  }
  void open() { open_ = true; }
  [[nodiscard]] bool passed() const { return passed_; }

 private:
  static void wait(void* gate) {
    auto* self = static_cast<Gate*>(gate);
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!self->open_ && std::chrono::steady_clock::now() < limit) {
      std::this_thread::sleep_for(milliseconds(1));
    }
    self->passed_ = true;
  }
  std::atomic<bool> open_ = false, passed_ = false;
};

// Something slow in a stream, and whether it is done.
class Slow {
 public:
  explicit Slow(cudaStream_t stream) {
    const auto sleep = [](void* done) {
      std::this_thread::sleep_for(milliseconds(20));
      *static_cast<std::atomic<bool>*>(done) = true;
    };
    EXPECT_EQ(cudaLaunchHostFunc(stream, sleep, &done_), cudaSuccess);
  }
  [[nodiscard]] bool done() const { return done_; }

 private:
  std::atomic<bool> done_ = false;
};

int value_at(const void* memory) {
  int value = 0;
  EXPECT_EQ(cudaMemcpy(&value, memory, sizeof(value), cudaMemcpyDeviceToHost), cudaSuccess);
  return value;
}

// emulated/calls_event.cc: event->wait() in cuStreamWaitEvent(); emulated/stream.cc: delay().
TEST_F(CudartTest, WhatIsNotOrderedGoesWrong) {
  constexpr size_t kBytes = 4096;
  const Stream one, two;
  const DeviceMemory source(kBytes), sink(kBytes);
  const PinnedMemory ones(kBytes);
  std::memset(ones.as<void>(), 1, kBytes);
  for (const bool ordered : {true, false}) {
    int wrong = 0;
    for (int i = 0; i < 40; ++i) {
      ASSERT_EQ(cudaMemset(source, 0, kBytes), cudaSuccess);
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      const Event copied;
      ASSERT_EQ(cudaMemcpyAsync(source, ones.as<void>(), kBytes, cudaMemcpyHostToDevice, one),
                cudaSuccess);
      ASSERT_EQ(cudaEventRecord(copied, one), cudaSuccess);
      if (ordered) {
        ASSERT_EQ(cudaStreamWaitEvent(two, copied, 0), cudaSuccess);
      }
      ASSERT_EQ(cudaMemcpyAsync(sink, source, kBytes, cudaMemcpyDeviceToDevice, two), cudaSuccess);
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      wrong += value_at(sink) != 0x01010101;
    }
    EXPECT_EQ(wrong > 0, !ordered) << wrong;
  }
}

// emulated/stream.cc: that Event knows each recording, not only the last one reached.
TEST_F(CudartTest, ALaterRecordingElsewhereDoesNotEndAWait) {
  const Stream slow, fast, waiter;
  const Event event;
  Gate gate(slow);
  ASSERT_EQ(cudaEventRecord(event, slow), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(waiter, event, 0), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, fast), cudaSuccess);
  ASSERT_EQ(cudaEventSynchronize(event), cudaSuccess);
  std::this_thread::sleep_for(milliseconds(30));
  EXPECT_EQ(cudaStreamQuery(waiter), cudaErrorNotReady);
  gate.open();
  EXPECT_EQ(cudaStreamSynchronize(waiter), cudaSuccess);
  EXPECT_TRUE(gate.passed());
}

// emulated/state.cc: turns with stream 0 in enqueue(), whichever name stream 0 has.
TEST_F(CudartTest, BlockingStreamsTakeTurnsWithTheDefaultStream) {
  const DeviceMemory memory(64);
  const Stream blocking(cudaStreamDefault);
  for (const cudaStream_t zero : {cudaStream_t{}, cudaStreamLegacy}) {
    for (const cudaStream_t other : {cudaStream_t{blocking}, cudaStreamPerThread}) {
      const Slow before(other);
      ASSERT_EQ(cudaMemsetAsync(memory, 0, 64, zero), cudaSuccess);
      ASSERT_EQ(cudaStreamSynchronize(zero), cudaSuccess);
      EXPECT_TRUE(before.done());
      const Slow in_zero(zero);
      ASSERT_EQ(cudaMemsetAsync(memory, 0, 64, other), cudaSuccess);
      ASSERT_EQ(cudaStreamSynchronize(other), cudaSuccess);
      EXPECT_TRUE(in_zero.done());
    }
  }
}

TEST_F(CudartTest, NonBlockingStreamsDoNot) {
  const DeviceMemory memory(64);
  const Stream free;
  Gate gate(nullptr);
  ASSERT_EQ(cudaMemsetAsync(memory, 0, 64, free), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(free), cudaSuccess);
  EXPECT_FALSE(gate.passed());
  gate.open();
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

// emulated/state.cc: thread_local in thread_stream().
TEST_F(CudartTest, EachThreadHasAStreamOfItsOwn) {
  const DeviceMemory memory(64);
  Gate gate(cudaStreamPerThread);
  std::thread([&] {
    EXPECT_EQ(cudaMemsetAsync(memory, 0, 64, cudaStreamPerThread), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(cudaStreamPerThread), cudaSuccess);
    EXPECT_FALSE(gate.passed());
  }).join();
  gate.open();
  ASSERT_EQ(cudaStreamSynchronize(cudaStreamPerThread), cudaSuccess);
  EXPECT_TRUE(gate.passed());
}

// emulated/calls_memory.cc: synchronize() in allocations and releases.
TEST_F(CudartTest, AllocationAndReleaseWaitForTheDevice) {
  const Stream stream;
  void *memory = nullptr, *pinned = nullptr;
  int value = 0;
  const auto expect_wait = [&](const std::function<cudaError_t()>& change) {
    const Slow slow(stream);
    EXPECT_EQ(change(), cudaSuccess);
    EXPECT_TRUE(slow.done());
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  };
  expect_wait([&] { return cudaMalloc(&memory, 64); });
  expect_wait([&] { return cudaFree(memory); });
  expect_wait([&] { return cudaHostAlloc(&pinned, 64, 0); });
  expect_wait([&] { return cudaFreeHost(pinned); });
  expect_wait([&] { return cudaHostRegister(&value, sizeof(value), 0); });
  expect_wait([&] { return cudaHostUnregister(&value); });
}

// emulated/copies.cc: pageable memory is read by the call, pinned memory by the stream.
TEST_F(CudartTest, OnlyPageableMemoryMayBeChangedAfterTheCall) {
  const Stream stream;
  const DeviceMemory of_pageable(4), of_pinned(4);
  const PinnedMemory pinned(4);
  int pageable = *pinned.as<int>() = 1;
  Gate gate(stream);
  ASSERT_EQ(cudaMemcpyAsync(of_pageable, &pageable, 4, cudaMemcpyDefault, stream), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(of_pinned, pinned.as<void>(), 4, cudaMemcpyDefault, stream),
            cudaSuccess);
  pageable = *pinned.as<int>() = 2;
  gate.open();
  // Into pageable memory the call waits.
  ASSERT_EQ(cudaMemcpyAsync(&pageable, of_pageable, 4, cudaMemcpyDefault, stream), cudaSuccess);
  EXPECT_EQ(pageable, 1);
  EXPECT_EQ(value_at(of_pinned), 2);
}

// emulated/state.cc: on_host_function_thread() in admit().
TEST_F(CudartTest, AHostFunctionMayNotCallTheRuntime) {
  const Stream stream;
  cudaError_t result = cudaSuccess;
  const auto body = [](void* into) {
    int device = 0;
    *static_cast<cudaError_t*>(into) = cudaGetDevice(&device);
  };
  ASSERT_EQ(cudaLaunchHostFunc(stream, body, &result), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(result, cudaErrorNotPermitted);
}

TEST_F(CudartTest, ACallbackIsToldItsStream) {
  const Stream stream;
  cudaStream_t told = nullptr;
  const auto body = [](cudaStream_t of, cudaError_t status, void* into) {
    if (status == cudaSuccess) *static_cast<cudaStream_t*>(into) = of;
  };
  ASSERT_EQ(cudaStreamAddCallback(stream, body, &told, 0), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(told, stream);
}

// emulated/state.cc: the comparison of contexts in own_stream_of(); calls_event.cc: in record().
TEST_F(CudartTest, AnotherDevicesStreamIsRefused) {
  const Stream stream;
  const DeviceMemory memory(64);
  const Event event;
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  const Event event_of_1;
  EXPECT_EQ(cudaMemsetAsync(memory, 0, 64, stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(event_of_1, stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(nullptr, event, 0), cudaSuccess);  // it may wait for it
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
}

TEST_F(CudartTest, EventsKeepTime) {
  const Stream stream;
  const Event begin(cudaEventDefault), end(cudaEventDefault), without_time, never(cudaEventDefault);
  float ms = 0;
  ASSERT_EQ(cudaEventRecord(begin, stream), cudaSuccess);
  const Slow slow(stream);  // 20 ms
  ASSERT_EQ(cudaEventRecord(end, stream), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(without_time, stream), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  ASSERT_EQ(cudaEventElapsedTime(&ms, begin, end), cudaSuccess);
  EXPECT_GE(ms, 20);
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin, without_time), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin, never), cudaErrorInvalidResourceHandle);
  Gate gate(stream);
  ASSERT_EQ(cudaEventRecord(end, stream), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin, end), cudaErrorNotReady);
  EXPECT_EQ(cudaEventQuery(end), cudaErrorNotReady);
  gate.open();
  ASSERT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(end), cudaSuccess);
}

TEST_F(CudartTest, StreamsKeepTheirPriority) {
  int least = 1, greatest = 1, told = 1;
  ASSERT_EQ(cudaDeviceGetStreamPriorityRange(&least, &greatest), cudaSuccess);
  EXPECT_LT(greatest, least);
  const Stream middle(cudaStreamNonBlocking, -1), beyond(cudaStreamDefault, greatest - 5);
  ASSERT_EQ(cudaStreamGetPriority(middle, &told), cudaSuccess);
  EXPECT_EQ(told, -1);
  ASSERT_EQ(cudaStreamGetPriority(beyond, &told), cudaSuccess);
  EXPECT_EQ(told, greatest);
}

TEST_F(CudartTest, ADestroyedHandleIsRefused) {
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  ASSERT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(event, nullptr), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamDestroy(cudaStreamLegacy), cudaErrorInvalidResourceHandle);
}

}  // namespace
}  // namespace slimccl::cudart::testing
