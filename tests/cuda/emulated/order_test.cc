// In which order the emulated driver does what streams were given. Each test names the line that it
// keeps: take that line away, and the test fails.
#include <atomic>
#include <chrono>
#include <functional>
#include <set>
#include <thread>

#include "cuda/gpu.h"

namespace slimccl::device::testing {
namespace {

using std::chrono::milliseconds;

class OrderTest : public GpuTest {};

// A word that holds a stream back until open(), and a stream's mark that it came by.
class Gate {
 public:
  Gate() { value().store(0); }
  void hold(CUstream stream) const { driver().cuStreamWaitValue32(stream, address(), 1, 0); }
  void open() const { value().store(1); }
  void open_from(CUstream stream) const { driver().cuStreamWriteValue32(stream, address(), 1, 0); }
  [[nodiscard]] bool is_open() const { return value().load() == 1; }
  // False if it does not open; as long as the slowest machine needs, but never forever.
  [[nodiscard]] bool opens() const {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!is_open() && std::chrono::steady_clock::now() < limit) {
      std::this_thread::sleep_for(milliseconds(1));
    }
    return is_open();
  }

 private:
  [[nodiscard]] std::atomic_ref<uint32_t> value() const {
    return std::atomic_ref<uint32_t>(*word_.as<uint32_t>());
  }
  [[nodiscard]] CUdeviceptr address() const {
    return reinterpret_cast<CUdeviceptr>(word_.as<void>());
  }
  const PinnedMemory word_{sizeof(uint32_t)};
};

// state.cc: blocking streams wait for stream 0 in enqueue().
TEST_F(OrderTest, OnlyBlockingStreamsWaitForStreamZero) {
  const Gate zero, blocking_came, free_came;
  const Stream blocking(CU_STREAM_DEFAULT), free(CU_STREAM_NON_BLOCKING);
  zero.hold(nullptr);
  blocking_came.open_from(blocking);
  free_came.open_from(free);
  EXPECT_TRUE(free_came.opens());
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_FALSE(blocking_came.is_open());
  zero.open();
  EXPECT_TRUE(blocking_came.opens());
}

// calls_stream.cc: cuStreamWaitEvent() takes its ticket itself, not when the stream comes to it.
TEST_F(OrderTest, AStreamWaitsForTheRecordingBeforeItsCall) {
  const Gate recorder_gate, waiter_gate, waiter_came;
  const Stream recorder, waiter;
  const Event event;
  driver().cuEventRecord(event, recorder);
  recorder.synchronize();
  waiter_gate.hold(waiter);
  driver().cuStreamWaitEvent(waiter, event, 0);
  waiter_came.open_from(waiter);
  recorder_gate.hold(recorder);
  driver().cuEventRecord(event, recorder);
  waiter_gate.open();
  EXPECT_TRUE(waiter_came.opens()) << "it waits for a recording that came after the call";
  recorder_gate.open();
  driver().cuCtxSynchronize();
}

// stream.cc: run() ends a closed stream only once nothing waits.
TEST_F(OrderTest, ADestroyedStreamStillDoesItsWork) {
  const Gate gate, came;
  CUstream stream = nullptr;
  driver().cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
  gate.hold(stream);
  came.open_from(stream);
  driver().cuStreamDestroy(stream);
  EXPECT_FALSE(came.is_open());
  gate.open();
  EXPECT_TRUE(came.opens());
}

// calls_device.cc: synchronize() in tear_down().
TEST_F(OrderTest, AContextsReleaseWaitsForItsWork) {
  static std::atomic<bool> done;  // outlives the work, which may end after a failed test
  done = false;
  CUcontext other = nullptr;
  driver().cuDevicePrimaryCtxRetain(&other, 1);
  driver().cuCtxSetCurrent(other);
  const Stream stream;
  const auto slow = [](void*) {
    std::this_thread::sleep_for(milliseconds(50));
    done = true;
  };
  driver().cuLaunchHostFunc(stream, slow, nullptr);
  driver().cuDevicePrimaryCtxRelease(1);
  EXPECT_TRUE(done);
  driver().cuCtxSetCurrent(context_);
}

// kernel.cc: run_twin_on() chooses the order of the warps. A copy onto its own source, a warp's
// part further, reads what other warps write: each order gives another result.
TEST_F(OrderTest, WarpsRunInBothOrders) {
  constexpr uint64_t kElems = 2048, kShiftBytes = 1024;
  const FoldKernels kernels(driver(), quant::fold_fatbin());
  std::vector<float> values(kElems + kShiftBytes / sizeof(float));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  std::set<std::vector<std::byte>> results;
  for (int i = 0; i < 40; ++i) {
    const DeviceMemory memory(values.data(), values.size() * sizeof(float));
    const quant::Launch copy =
        conversion(memory.pointer(), quant::Codec::kFp32, memory.pointer<std::byte>() + kShiftBytes,
                   quant::Codec::kFp32, kElems);
    kernels.launch(nullptr, copy.to, copy.batch);
    results.insert(memory.read());
  }
  EXPECT_EQ(results.size(), 2u);
}

}  // namespace
}  // namespace slimccl::device::testing
