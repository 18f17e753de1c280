// What the emulated driver promises and forbids about streams, events, launches and host functions.
// Each test of a rule names the line that it keeps: take that line away, and the test fails.
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "base/error.h"
#include "cuda/gpu.h"

namespace slimccl::device::testing {
namespace {

constexpr uint64_t kElems = 2048, kBytes = kElems * 4;

void host_function(CUstream stream, std::function<void()>& body) {
  driver().cuLaunchHostFunc(
      stream, [](void* function) { (*static_cast<std::function<void()>*>(function))(); }, &body);
}

struct Shape {
  unsigned grid[3], block[3];
  unsigned shared_bytes = 0;
};
constexpr Shape kRight = {{1, 1, 1}, {256, 1, 1}};  // for a batch of one superblock

class StreamTest : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped()) kernels_ = std::make_unique<FoldKernels>(driver(), quant::fold_fatbin());
  }
  void TearDown() override {
    kernels_.reset();
    GpuTest::TearDown();
  }
  void launch(CUstream stream, const quant::Launch& what) {
    kernels_->launch(stream, what.to, what.batch);
  }
  CUresult launch(CUstream stream, quant::FoldBatch batch, const Shape& shape = kRight) {
    CUlibrary library = nullptr;
    CUkernel kernel = nullptr;
    driver().cuLibraryLoadData(&library, quant::fold_fatbin().data(), nullptr, nullptr, 0, nullptr,
                               nullptr, 0);
    driver().cuLibraryGetKernel(&kernel, library, "slimccl_fold_to_fp32");
    void* parameters[] = {&batch};
    const auto& [grid, block, shared_bytes] = shape;
    return driver().cuLaunchKernel.result(reinterpret_cast<CUfunction>(kernel), grid[0], grid[1],
                                          grid[2], block[0], block[1], block[2], shared_bytes,
                                          stream, parameters, nullptr);
  }
  std::unique_ptr<FoldKernels> kernels_;
};

// Two streams double a value in turns, each waiting for a word that the other writes: neither ends
// unless both run at once.
TEST_F(StreamTest, StreamsRunAtTheSameTime) {
  const Stream one, two;
  const PinnedMemory word(4);
  const DeviceMemory memory(kBytes);
  *word.as<uint32_t>() = 0;
  const auto at = reinterpret_cast<CUdeviceptr>(word.as<void>());
  driver().cuStreamWaitValue32(one, at, 1, CU_STREAM_WAIT_VALUE_EQ);
  driver().cuStreamWriteValue32(one, at, 2, 0);
  driver().cuStreamWriteValue32(two, at, 1, 0);
  driver().cuStreamWaitValue32(two, at, 2, CU_STREAM_WAIT_VALUE_GEQ);
  driver().cuCtxSynchronize();
  EXPECT_EQ(*word.as<uint32_t>(), 2u);
}

// stream.cc: delay() in run(). Without it a hundred fills take a fifth of a millisecond.
TEST_F(StreamTest, OperationsAreDelayed) {
  using Clock = std::chrono::steady_clock;
  const Stream stream;
  const DeviceMemory memory(64);
  const auto begin = Clock::now();
  for (int i = 0; i < 100; ++i) driver().cuMemsetD8Async(memory.address(), 0, 64, stream);
  stream.synchronize();
  EXPECT_GT(Clock::now() - begin, std::chrono::milliseconds(5));
}

// calls_stream.cc: event->wait() in cuStreamWaitEvent(), and that every stream has a thread of its
// own. Without the wait some results are wrong, with it none is.
TEST_F(StreamTest, WhatIsNotOrderedGoesWrong) {
  constexpr int kTimes = 40;
  const Stream one, two;
  const DeviceMemory source(kBytes), middle(kBytes), sink(kBytes);
  const std::vector<float> ones(kElems, 1);
  const PinnedMemory values(kBytes);
  std::memcpy(values.as<float>(), ones.data(), kBytes);
  for (const bool ordered : {true, false}) {
    int wrong = 0;
    for (int i = 0; i < kTimes; ++i) {
      for (const DeviceMemory* memory : {&source, &middle, &sink}) {
        driver().cuMemsetD8(memory->address(), 0, kBytes);
      }
      driver().cuCtxSynchronize();
      const Event copied;
      driver().cuMemcpyHtoDAsync(source.address(), values.as<void>(), kBytes, one);
      launch(one, scaled_copy(source, middle, kElems, 3));
      driver().cuEventRecord(copied, one);
      if (ordered) driver().cuStreamWaitEvent(two, copied, 0);
      launch(two, scaled_copy(middle, sink, kElems, 5));
      driver().cuCtxSynchronize();
      wrong += reinterpret_cast<float*>(sink.read().data())[kElems - 1] != 15;
    }
    EXPECT_EQ(wrong > 0, !ordered) << wrong;
  }
}

// stream.cc: one HostFunctions for all streams.
TEST_F(StreamTest, HostFunctionsOfAllStreamsShareOneThread) {
  const Stream one, two;
  std::thread::id first, second;
  std::function<void()> note_first = [&] { first = std::this_thread::get_id(); };
  std::function<void()> note_second = [&] { second = std::this_thread::get_id(); };
  host_function(one, note_first);
  host_function(two, note_second);
  driver().cuCtxSynchronize();
  EXPECT_EQ(first, second);
  EXPECT_NE(first, std::this_thread::get_id());
}

// state.cc: on_host_function_thread() in admit().
TEST_F(StreamTest, AHostFunctionMayNotCallTheDriver) {
  const Stream stream;
  CUresult result = CUDA_SUCCESS;
  std::function<void()> body = [&] { result = driver().cuStreamQuery.result(nullptr); };
  host_function(stream, body);
  stream.synchronize();
  EXPECT_EQ(result, CUDA_ERROR_NOT_PERMITTED);
}

// stream.cc: wait_within_deadline(). A host function that waits for another stream's is a deadlock.
TEST(StreamDeadlineTest, ADeadlockIsReported) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto deadlock = [] {
    setenv("SLIMCCL_EMULATED_DEADLINE_S", "1", 1);
    CUcontext context = nullptr;
    driver().cuDevicePrimaryCtxRetain(&context, 0);
    driver().cuCtxSetCurrent(context);
    const Stream one, two;
    std::atomic<bool> passed = false;
    std::function<void()> wait = [&] {
      while (!passed) std::this_thread::yield();
    };
    std::function<void()> pass = [&] { passed = true; };
    host_function(one, wait);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    host_function(two, pass);
    driver().cuCtxSynchronize();
  };
  EXPECT_DEATH(deadlock(), "still waiting after 1 s for .*\n.*SLIMCCL_EMULATED_SEED=");
}

// state.cc: the comparison of contexts in own_stream_of(), and calls_stream.cc: that the calls with
// words use it, and the comparison of contexts in cuEventRecord().
TEST_F(StreamTest, AnotherDevicesStreamIsRefused) {
  const Stream stream_of_0;
  const DeviceMemory memory(kBytes);
  const quant::FoldBatch batch = scaled_copy(memory, memory, kElems).batch;
  const PinnedMemory word(4);
  const auto at = reinterpret_cast<CUdeviceptr>(word.as<void>());
  CUcontext other = nullptr;
  driver().cuDevicePrimaryCtxRetain(&other, 1);
  driver().cuCtxSetCurrent(other);
  EXPECT_EQ(launch(stream_of_0, batch), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(driver().cuMemsetD8Async.result(memory.address(), 0, 1, stream_of_0),
            CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(driver().cuStreamWaitValue32.result(stream_of_0, at, 0, CU_STREAM_WAIT_VALUE_GEQ),
            CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(driver().cuStreamWriteValue32.result(stream_of_0, at, 0, 0), CUDA_ERROR_INVALID_HANDLE);
  {
    const Event event_of_1;
    EXPECT_EQ(driver().cuEventRecord.result(event_of_1, stream_of_0), CUDA_ERROR_INVALID_HANDLE);
  }
  driver().cuDevicePrimaryCtxRelease(1);
  driver().cuCtxSetCurrent(nullptr);
  EXPECT_EQ(launch(stream_of_0, batch), CUDA_ERROR_INVALID_CONTEXT);
  driver().cuCtxSetCurrent(context_);
}

// calls_stream.cc: the alignment in require_word().
TEST_F(StreamTest, AWordIsAligned) {
  const PinnedMemory words(8);
  const auto at = reinterpret_cast<CUdeviceptr>(words.as<void>());
  std::memset(words.as<void>(), 0, 8);
  EXPECT_EQ(driver().cuStreamWaitValue32.result(nullptr, at + 2, 0, CU_STREAM_WAIT_VALUE_GEQ),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuStreamWriteValue32.result(nullptr, at + 2, 0, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuStreamWriteValue32.result(nullptr, at + 4, 0, 0), CUDA_SUCCESS);
  driver().cuCtxSynchronize();
}

// calls_library.cc: each line of check_limits(), and check_twin().
TEST_F(StreamTest, ALaunchOfAnotherShapeIsRefused) {
  const DeviceMemory memory(kBytes);
  const quant::FoldBatch batch = scaled_copy(memory, memory, kElems).batch;
  constexpr unsigned kSharedBytes = 48 << 10;  // that a launch may ask for
  for (const Shape& shape : {
           Shape{{0, 1, 1}, {256, 1, 1}},
           Shape{{0x80000000, 1, 1}, {256, 1, 1}},
           Shape{{1, 65536, 1}, {256, 1, 1}},
           Shape{{1, 1, 65536}, {256, 1, 1}},
           Shape{{1, 1, 1}, {0, 1, 1}},
           Shape{{1, 1, 1}, {1, 1, 65}},
           Shape{{1, 1, 1}, {512, 1, 1}},  // __launch_bounds__(256)
           Shape{{1, 1, 1}, {256, 1, 1}, kSharedBytes + 1},
       }) {
    EXPECT_EQ(launch(nullptr, batch, shape), CUDA_ERROR_INVALID_VALUE);
  }
  EXPECT_DEATH((void)launch(nullptr, batch, {{2, 1, 1}, {256, 1, 1}}),
               "a grid of 2 blocks of 256 threads");
  EXPECT_DEATH((void)launch(nullptr, batch, {{1, 1, 1}, {128, 1, 1}}),
               "a grid of 1 blocks of 128 threads");
  EXPECT_EQ(launch(nullptr, batch, {{1, 1, 1}, {256, 1, 1}, kSharedBytes}), CUDA_SUCCESS);
}

// state.cc: enqueue() takes turns with stream 0.
TEST_F(StreamTest, OnlyBlockingStreamsTakeTurnsWithStreamZero) {
  const Stream blocking(CU_STREAM_DEFAULT), free(CU_STREAM_NON_BLOCKING);
  const PinnedMemory word(4), free_word(4);
  std::atomic_ref<uint32_t> gate(*word.as<uint32_t>()), free_gate(*free_word.as<uint32_t>());
  gate = free_gate = 0;
  driver().cuStreamWaitValue32(blocking, reinterpret_cast<CUdeviceptr>(word.as<void>()), 1, 0);
  driver().cuStreamWaitValue32(free, reinterpret_cast<CUdeviceptr>(free_word.as<void>()), 1, 0);
  std::atomic<bool> zero = false, beside = false;
  std::function<void()> note_zero = [&] { zero = true; }, note_beside = [&] { beside = true; };
  host_function(nullptr, note_zero);
  host_function(free, note_beside);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(zero);
  gate = 1;
  driver().cuStreamSynchronize(nullptr);
  EXPECT_TRUE(zero);
  EXPECT_FALSE(beside);
  free_gate = 1;
  driver().cuCtxSynchronize();
  EXPECT_TRUE(beside);
}

// calls_memory.cc: pinned memory is read and written by the stream, pageable memory by the call.
TEST_F(StreamTest, CopiesOfPinnedMemoryDoNotWait) {
  const Stream stream;
  const PinnedMemory pinned(kBytes), word(4);
  const DeviceMemory memory(kBytes);
  std::atomic_ref<uint32_t> gate(*word.as<uint32_t>());
  gate = 0;
  driver().cuStreamWaitValue32(stream, reinterpret_cast<CUdeviceptr>(word.as<void>()), 1, 0);
  uint32_t pageable = 0x01010101;
  driver().cuMemcpyHtoDAsync(memory.address(), &pageable, 4, stream);
  pageable = 0;  // was read
  driver().cuMemcpyDtoHAsync(pinned.as<void>(), memory.address(), 4, stream);
  EXPECT_EQ(driver().cuStreamQuery.result(stream), CUDA_ERROR_NOT_READY);
  gate = 1;
  stream.synchronize();
  EXPECT_EQ(driver().cuStreamQuery.result(stream), CUDA_SUCCESS);
  EXPECT_EQ(*pinned.as<uint32_t>(), 0x01010101u);
  driver().cuMemcpyDtoHAsync(&pageable, memory.address(), 4, stream);
  EXPECT_EQ(pageable, 0x01010101u);
}

TEST_F(StreamTest, AnEventIsReachedWhenItsStreamIs) {
  const Stream stream, other;
  const Event event;
  const PinnedMemory word(4);
  std::atomic_ref<uint32_t> gate(*word.as<uint32_t>());
  gate = 0;
  driver().cuStreamWaitEvent(other, event, 0);  // never recorded: nothing to wait for
  other.synchronize();
  EXPECT_EQ(driver().cuEventQuery.result(event), CUDA_SUCCESS);
  driver().cuStreamWaitValue32(stream, reinterpret_cast<CUdeviceptr>(word.as<void>()), 1, 0);
  driver().cuEventRecord(event, stream);
  EXPECT_EQ(driver().cuEventQuery.result(event), CUDA_ERROR_NOT_READY);
  gate = 1;
  driver().cuEventSynchronize(event);
  EXPECT_EQ(driver().cuEventQuery.result(event), CUDA_SUCCESS);
}

// state.cc: Handles::get() knows what lives.
TEST_F(StreamTest, ADestroyedHandleIsRefused) {
  CUstream stream = nullptr;
  driver().cuStreamCreate(&stream, 0);
  driver().cuStreamDestroy(stream);
  EXPECT_EQ(driver().cuStreamSynchronize.result(stream), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(driver().cuEventQuery.result(reinterpret_cast<CUevent>(&stream)),
            CUDA_ERROR_INVALID_HANDLE);
}

// state.cc: failures in admit().
TEST_F(StreamTest, TheNthCallFailsWhereAskedTo) {
  const auto fail = SLIMCCL_CONTROL(slimccl_emulated_fail);
  fail("cuCtxSynchronize", 2, CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(driver().cuCtxSynchronize.result(), CUDA_SUCCESS);
  EXPECT_EQ(driver().cuCtxSynchronize.result(), CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(driver().cuCtxSynchronize.result(), CUDA_SUCCESS);
}

// state.cc: `initialized` in admit(), and SLIMCCL_EMULATED_FAIL in State().
TEST(StreamFailTest, NothingWorksBeforeCuInitWhichMayFail) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto print_results = [] {
    setenv("SLIMCCL_EMULATED_FAIL", "cuInit:1:100", 1);
    void* library = dlopen(libcuda(), RTLD_NOW);
    const auto early = reinterpret_cast<CUresult (*)(int*)>(dlsym(library, "cuDeviceGetCount"));
    int count = 0;
    std::fprintf(stderr, "early: %d; ", early(&count));
    try {
      (void)driver();
    } catch (const Error& error) {
      std::fputs(error.what(), stderr);
    }
    std::exit(0);
  };
  EXPECT_EXIT(print_results(), ::testing::ExitedWithCode(0),
              "early: 3; cuInit failed with no device: CUDA_ERROR_NO_DEVICE .100.");
}

}  // namespace
}  // namespace slimccl::device::testing
