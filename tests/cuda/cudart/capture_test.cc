// The rules of stream capture (emulated/capture.cc). Each test breaks one of them.
#include <thread>

#include "cuda/cudart/cuda_test.h"

namespace slimccl::cudart::testing {
namespace {

class CaptureTest : public CudartTest {
 protected:
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    ASSERT_EQ(cudaStreamBeginCapture(stream_, mode), cudaSuccess);
  }
  cudaError_t end() { return cudaStreamEndCapture(stream_, &graph_); }
  // `result` is refused because of the capture, which then cannot end well.
  void expect_broken(cudaError_t result, cudaError_t why = cudaErrorStreamCaptureUnsupported) {
    EXPECT_EQ(result, why);
    EXPECT_EQ(status(stream_), cudaStreamCaptureStatusInvalidated);
    EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph_, nullptr);
    EXPECT_EQ(status(stream_), cudaStreamCaptureStatusNone);
  }
  static cudaStreamCaptureStatus status(cudaStream_t stream) {
    auto status = cudaStreamCaptureStatusNone;
    EXPECT_EQ(cudaStreamIsCapturing(stream, &status), cudaSuccess);
    return status;
  }
  const Stream stream_;
  const DeviceMemory memory_{64};
  cudaGraph_t graph_ = nullptr;
};

TEST_F(CaptureTest, CapturedWorkIsNotDone) {
  auto status = cudaStreamCaptureStatusNone;
  unsigned long long first = 0, second = 0;
  ASSERT_EQ(cudaMemset(memory_, 1, 64), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  begin();
  ASSERT_EQ(cudaMemsetAsync(memory_, 2, 64, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamGetCaptureInfo(stream_, &status, &first, nullptr, nullptr, nullptr, nullptr),
            cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  EXPECT_EQ(end(), cudaSuccess);
  EXPECT_EQ(status = this->status(stream_), cudaStreamCaptureStatusNone);
  char value = 0;
  ASSERT_EQ(cudaMemcpy(&value, memory_, 1, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(value, 1);
  EXPECT_EQ(cudaGraphDestroy(graph_), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph_), cudaErrorInvalidResourceHandle);
  begin();
  ASSERT_EQ(cudaStreamGetCaptureInfo(stream_, &status, &second, nullptr, nullptr, nullptr, nullptr),
            cudaSuccess);
  EXPECT_NE(first, second);
  EXPECT_EQ(end(), cudaSuccess);
}

TEST_F(CaptureTest, BeginsAndEndsWhereItMay) {
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal),
            cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorIllegalState);
  begin();
  EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaErrorIllegalState);
  std::thread([&] { EXPECT_EQ(end(), cudaErrorStreamCaptureWrongThread); }).join();
  EXPECT_EQ(end(), cudaSuccess);
}

// emulated/calls_memory.cc: forbid_unsafe_in_capture().
TEST_F(CaptureTest, AllocationAndReleaseAreErrors) {
  void* memory = nullptr;
  int value = 0;
  PinnedMemory pinned(64);
  begin();
  expect_broken(cudaMalloc(&memory, 64));
  begin();
  expect_broken(cudaFree(memory_));
  begin();
  expect_broken(cudaHostAlloc(&memory, 64, 0));
  begin();
  expect_broken(cudaFreeHost(pinned.as<void>()));
  begin();
  expect_broken(cudaHostRegister(&value, sizeof(value), 0));
}

TEST_F(CaptureTest, WaitingAndAskingAreErrors) {
  const Event before, within;
  ASSERT_EQ(cudaEventRecord(before, stream_), cudaSuccess);
  ASSERT_EQ(cudaEventSynchronize(before), cudaSuccess);
  begin();
  expect_broken(cudaStreamSynchronize(stream_));
  begin();
  expect_broken(cudaStreamQuery(stream_));
  begin();
  expect_broken(cudaDeviceSynchronize());
  begin();
  expect_broken(cudaEventQuery(before));
  begin();
  expect_broken(cudaEventSynchronize(before));
  begin();
  ASSERT_EQ(cudaEventRecord(within, stream_), cudaSuccess);
  expect_broken(cudaEventQuery(within), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaEventSynchronize(within), cudaErrorCapturedEvent);
}

TEST_F(CaptureTest, SynchronousAndPageableCopiesAreErrors) {
  int value = 0;
  begin();
  expect_broken(cudaMemcpy(&value, memory_, 4, cudaMemcpyDeviceToHost));
  begin();
  expect_broken(cudaMemcpyAsync(&value, memory_, 4, cudaMemcpyDeviceToHost, stream_));
  begin();
  expect_broken(cudaMemcpyAsync(memory_, &value, 4, cudaMemcpyHostToDevice, stream_));
  begin();
  EXPECT_EQ(cudaStreamAddCallback(
                stream_, [](cudaStream_t, cudaError_t, void*) {}, nullptr, 0),
            cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaSuccess);
}

// forbid_beside_stream_0(): only a blocking stream would take turns with it.
TEST_F(CaptureTest, TheLegacyStreamIsAnErrorBesideABlockingStream) {
  const Stream blocking(cudaStreamDefault);
  auto status = cudaStreamCaptureStatusNone;
  begin();
  EXPECT_EQ(cudaMemsetAsync(memory_, 0, 64, nullptr), cudaSuccess);
  EXPECT_EQ(end(), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeGlobal), cudaSuccess);
  EXPECT_EQ(cudaStreamIsCapturing(nullptr, &status), cudaErrorStreamCaptureImplicit);
  EXPECT_EQ(cudaStreamIsCapturing(blocking, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  EXPECT_EQ(cudaMemsetAsync(memory_, 0, 64, nullptr), cudaErrorStreamCaptureImplicit);
  EXPECT_EQ(cudaStreamEndCapture(blocking, &graph_), cudaErrorStreamCaptureInvalidated);
}

TEST_F(CaptureTest, TheThreadsModeSaysWhatIsForbidden) {
  void* memory = nullptr;
  auto mode = cudaStreamCaptureModeRelaxed;
  begin();
  ASSERT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(mode, cudaStreamCaptureModeGlobal);
  EXPECT_EQ(cudaMalloc(&memory, 64), cudaSuccess);
  ASSERT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(mode, cudaStreamCaptureModeRelaxed);
  std::thread([&] { EXPECT_EQ(cudaFree(memory), cudaErrorStreamCaptureUnsupported); }).join();
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  for (const auto lenient : {cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed}) {
    begin(lenient);
    std::thread([&] { EXPECT_EQ(cudaHostAlloc(&memory, 64, 0), cudaSuccess); }).join();
    EXPECT_EQ(end(), cudaSuccess);
  }
}

TEST_F(CaptureTest, EventsDrawOtherStreamsIn) {
  const Stream other;
  const Event fork, join;
  begin();
  ASSERT_EQ(cudaEventRecord(fork, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(other, fork, 0), cudaSuccess);
  EXPECT_EQ(status(other), cudaStreamCaptureStatusActive);
  ASSERT_EQ(cudaMemsetAsync(memory_, 0, 64, other), cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(other, &graph_), cudaErrorStreamCaptureUnmatched);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  for (const bool joined : {true, false}) {
    begin();
    ASSERT_EQ(cudaEventRecord(fork, stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(other, fork, 0), cudaSuccess);
    ASSERT_EQ(cudaMemsetAsync(memory_, 0, 64, other), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(join, other), cudaSuccess);
    if (joined) {
      ASSERT_EQ(cudaStreamWaitEvent(stream_, join, 0), cudaSuccess);
    }
    EXPECT_EQ(end(), joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
    EXPECT_EQ(status(other), cudaStreamCaptureStatusNone);
  }
}

TEST_F(CaptureTest, EventsOfElsewhereAreErrors) {
  const Stream other;
  const Event before, of_other;
  ASSERT_EQ(cudaEventRecord(before, other), cudaSuccess);
  begin();
  expect_broken(cudaStreamWaitEvent(stream_, before, 0), cudaErrorStreamCaptureIsolation);
  begin();
  ASSERT_EQ(cudaStreamBeginCapture(other, cudaStreamCaptureModeGlobal), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(of_other, other), cudaSuccess);
  expect_broken(cudaStreamWaitEvent(stream_, of_other, 0), cudaErrorStreamCaptureMerge);
  EXPECT_EQ(cudaStreamEndCapture(other, &graph_), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaStreamWaitEvent(stream_, of_other, 0), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaEventRecord(of_other, other), cudaSuccess);  // an ordinary event again
  EXPECT_EQ(cudaStreamWaitEvent(stream_, of_other, 0), cudaSuccess);
}

}  // namespace
}  // namespace slimccl::cudart::testing
