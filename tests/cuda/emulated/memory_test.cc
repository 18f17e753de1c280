// What the emulated driver forbids about memory. Each test names the line that it keeps: take that
// line away, and the test fails.
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "cuda/gpu.h"

namespace slimccl::device::testing {
namespace {

using quant::Codec;

constexpr uint64_t kElems = 2048, kBytes = kElems * 4;

class MemoryTest : public GpuTest {
 protected:
  static void run(const quant::Launch& launch) {
    const FoldKernels kernels(driver(), quant::fold_fatbin());
    kernels.launch(nullptr, launch.to, launch.batch);
    driver().cuCtxSynchronize();
  }
};

// memory.cc: PROT_NONE in map_without_rights().
TEST_F(MemoryTest, TheHostCannotReadDeviceMemory) {
  const DeviceMemory memory(kBytes);
  EXPECT_DEATH(*memory.pointer<volatile int>(), "");  // SIGSEGV, which sanitizers catch
}

// calls_memory.cc: require_host_memory() in copy_to_device() and copy_to_host().
TEST_F(MemoryTest, ACopyIsToldWhichSideIsTheHost) {
  const DeviceMemory memory(kBytes);
  std::vector<std::byte> host(kBytes);
  EXPECT_EQ(driver().cuMemcpyHtoD.result(memory.address(), memory.pointer(), kBytes),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemcpyDtoH.result(memory.pointer(), memory.address(), kBytes),
            CUDA_ERROR_INVALID_VALUE);
}

// memory.cc: reach() asks holds() for all bytes.
TEST_F(MemoryTest, ACopyStaysWithinOneAllocation) {
  const DeviceMemory memory(100);
  std::vector<std::byte> host(200);
  EXPECT_EQ(driver().cuMemcpyHtoD.result(memory.address(), host.data(), 100), CUDA_SUCCESS);
  EXPECT_EQ(driver().cuMemcpyHtoD.result(memory.address(), host.data(), 101),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemsetD8.result(memory.address() + 50, 0, 51), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemcpyDtoD.result(memory.address(), memory.address() - 1, 1),
            CUDA_ERROR_INVALID_VALUE);
}

// memory.cc: release_locked() erases the allocation, and no address is given twice.
TEST_F(MemoryTest, FreedMemoryIsGone) {
  CUdeviceptr freed = 0, next = 0;
  driver().cuMemAlloc(&freed, kBytes);
  driver().cuMemFree(freed);
  driver().cuMemAlloc(&next, kBytes);
  EXPECT_NE(freed, next);
  EXPECT_EQ(driver().cuMemsetD8.result(freed, 0, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemFree.result(freed), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemFree.result(next + 1), CUDA_ERROR_INVALID_VALUE);
  driver().cuMemFree(next);
}

// calls_memory.cc: what cuMemFreeHost() makes of release_pinned()'s false.
TEST_F(MemoryTest, OnlyPinnedMemoryIsFreedAsSuch) {
  void* pinned = nullptr;
  driver().cuMemHostAlloc(&pinned, 64, 0);
  std::byte pageable{};
  const DeviceMemory memory(64);
  for (void* wrong : {static_cast<void*>(&pageable), static_cast<void*>(memory.pointer()),
                      static_cast<void*>(static_cast<std::byte*>(pinned) + 1)}) {
    EXPECT_EQ(driver().cuMemFreeHost.result(wrong), CUDA_ERROR_INVALID_VALUE);
  }
  EXPECT_EQ(driver().cuMemFreeHost.result(pinned), CUDA_SUCCESS);
  EXPECT_EQ(driver().cuMemFreeHost.result(pinned), CUDA_ERROR_INVALID_VALUE);
}

// kernel.cc: reach() in translate().
TEST_F(MemoryTest, AKernelMayNotTouchFreedMemory) {
  const DeviceMemory sink(kBytes);
  quant::Launch launch;
  {
    const DeviceMemory source(kBytes);
    launch = scaled_copy(source, sink, kElems);
  }
  EXPECT_DEATH(run(launch), "slimccl_fold_to_fp32.*\n?.*a read of 16 bytes at 0x.* may not touch");
}

// The same line.
TEST_F(MemoryTest, AKernelMayNotReachBeyondAnAllocation) {
  const DeviceMemory source(kBytes), sink(kBytes - 4);
  EXPECT_DEATH(
      run(scaled_copy(source, sink, kElems)),
      "a write of (4|16) bytes at 0x.* 81(76|88) bytes into the nearest live allocation, at "
      "0x.* of 8188 bytes");
}

// kernel.cc: running_device in translate(), which is the stream's.
TEST_F(MemoryTest, AKernelMayNotTouchAnotherDevicesMemory) {
  const DeviceMemory source(kBytes);
  CUcontext other = nullptr;
  driver().cuDevicePrimaryCtxRetain(&other, 1);
  driver().cuCtxSetCurrent(other);
  {
    const DeviceMemory sink(kBytes);
    EXPECT_DEATH(run(scaled_copy(source, sink, kElems)), "device 1 may not touch: of device 0");
  }
  driver().cuDevicePrimaryCtxRelease(1);
  driver().cuCtxSetCurrent(context_);
}

// kernel.cc: reach() in translate() does not know the host's memory.
TEST_F(MemoryTest, AKernelMayTouchPinnedHostMemoryButNoOther) {
  const DeviceMemory sink(kBytes);
  const PinnedMemory pinned(kBytes);
  std::vector<float> pageable(kElems);
  const auto from = [&](const void* source) {
    return conversion(source, Codec::kFp32, sink.pointer(), Codec::kFp32, kElems);
  };
  pinned.as<float>()[7] = 3;
  run(from(pinned.as<void>()));
  EXPECT_EQ(reinterpret_cast<float*>(sink.read().data())[7], 3);
  EXPECT_DEATH(run(from(pageable.data())), "no device memory lies there; it may be host memory");
}

// twin/memory.cc: the test of alignment in checked().
TEST_F(MemoryTest, AMisalignedWideAccessIsFatal) {
  const DeviceMemory message(quant::encoded_bytes(Codec::kQ8, ncclFloat32, kElems) + 4);
  const DeviceMemory sink(kBytes);
  quant::Launch launch =
      conversion(message.pointer(), Codec::kQ8, sink.pointer(), Codec::kFp32, kElems);
  launch.batch.runs[0].data = message.pointer<std::byte>() + 4;
  EXPECT_DEATH(run(launch), "not aligned to its size");
}

// calls_memory.cc: synchronize() in the two pairs of calls.
TEST_F(MemoryTest, AllocationAndReleaseWaitForTheDevice) {
  const Stream stream;
  const auto expect_wait = [&](const std::function<void()>& change) {
    std::atomic<bool> done = false;
    driver().cuLaunchHostFunc(
        stream,
        [](void* flag) {
          std::this_thread::sleep_for(std::chrono::milliseconds(30));
          *static_cast<std::atomic<bool>*>(flag) = true;
        },
        &done);
    change();
    EXPECT_TRUE(done);
    stream.synchronize();
  };
  CUdeviceptr memory = 0;
  void* pinned = nullptr;
  expect_wait([&] { driver().cuMemAlloc(&memory, 64); });
  expect_wait([&] { driver().cuMemFree(memory); });
  expect_wait([&] { driver().cuMemHostAlloc(&pinned, 64, 0); });
  expect_wait([&] { driver().cuMemFreeHost(pinned); });
}

// memory.cc: the comparison with device_bytes in allocate().
TEST_F(MemoryTest, ADeviceHasAnEnd) {
  CUdeviceptr memory = 0;
  EXPECT_EQ(driver().cuMemAlloc.result(&memory, size_t{2} << 30), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(driver().cuMemAlloc.result(&memory, 0), CUDA_ERROR_INVALID_VALUE);
}

// calls_device.cc: release_all() in tear_down().
TEST_F(MemoryTest, AContextsEndFreesItsMemory) {
  CUcontext other = nullptr;
  driver().cuDevicePrimaryCtxRetain(&other, 1);
  driver().cuCtxSetCurrent(other);
  CUdeviceptr memory = 0;
  driver().cuMemAlloc(&memory, 64);
  driver().cuDevicePrimaryCtxRelease(1);
  EXPECT_EQ(driver().cuMemFree.result(memory), CUDA_ERROR_INVALID_CONTEXT);
  driver().cuDevicePrimaryCtxRetain(&other, 1);
  EXPECT_EQ(driver().cuMemFree.result(memory), CUDA_ERROR_INVALID_VALUE);
  driver().cuDevicePrimaryCtxRelease(1);
  driver().cuCtxSetCurrent(context_);
}

}  // namespace
}  // namespace slimccl::device::testing
