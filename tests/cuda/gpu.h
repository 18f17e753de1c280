// What tests share that use CUDA through the driver: the emulated driver (or any other that
// SLIMCCL_TEST_LIBCUDA names), a context for the test, and memory and streams that clean up.
#pragma once

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "cuda/emulated/control.h"
#include "cuda/twin/machine.h"
#include "device/cuda/fold_kernels.h"
#include "device/cuda/memory.h"
#include "quant/cuda/fatbin.h"
#include "quant/cuda/pack.h"

namespace slimccl::device::testing {

#ifndef EMULATED_LIBCUDA  // the build names the one that it made
#define EMULATED_LIBCUDA "libcuda.so.1"
#endif
inline const char* libcuda() {
  const char* other = std::getenv("SLIMCCL_TEST_LIBCUDA");
  return other != nullptr ? other : EMULATED_LIBCUDA;
}

inline const Driver& driver() {
  static const Driver& only = *new Driver(libcuda());
  return only;
}

// A function of emulated/control.h.
template <class Function>
Function* control(const char* name) {
  void* library = dlopen(libcuda(), RTLD_NOW | RTLD_NOLOAD);
  return reinterpret_cast<Function*>(dlsym(library, name));
}
#define SLIMCCL_CONTROL(function) control<decltype(function)>(#function)

// Device 0's primary context, current while it lives.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    if (quant::fold_fatbin().empty()) GTEST_SKIP() << "built without nvcc";
    if (const char* why = twin::unavailable()) GTEST_SKIP() << why;
    driver().cuDevicePrimaryCtxRetain(&context_, 0);
    driver().cuCtxSetCurrent(context_);
  }
  void TearDown() override {
    if (HasFailure()) {
      std::printf("repeat with SLIMCCL_EMULATED_SEED=%u\n",
                  SLIMCCL_CONTROL(slimccl_emulated_seed)());
    }
    if (context_ != nullptr) driver().cuDevicePrimaryCtxRelease(0);
  }
  CUcontext context_ = nullptr;
};

class Stream {
 public:
  explicit Stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
    driver().cuStreamCreate(&stream_, flags);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { (void)driver().cuStreamDestroy.result(stream_); }
  operator CUstream() const { return stream_; }
  void synchronize() const { driver().cuStreamSynchronize(stream_); }

 private:
  CUstream stream_ = nullptr;
};

class Event {
 public:
  Event() { driver().cuEventCreate(&event_, CU_EVENT_DISABLE_TIMING); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { (void)driver().cuEventDestroy.result(event_); }
  operator CUevent() const { return event_; }

 private:
  CUevent event_ = nullptr;
};

// `bytes` bytes of the current device that begin `offset` bytes behind an allocation's begin.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes, size_t offset = 0) : bytes_(bytes), offset_(offset) {
    driver().cuMemAlloc(&base_, bytes + offset);
  }
  DeviceMemory(const void* from, size_t bytes, size_t offset = 0) : DeviceMemory(bytes, offset) {
    driver().cuMemcpyHtoD(address(), from, bytes);
  }
  DeviceMemory(DeviceMemory&& other) noexcept
      : bytes_(other.bytes_), offset_(other.offset_), base_(std::exchange(other.base_, 0)) {}
  ~DeviceMemory() { (void)driver().cuMemFree.result(base_); }

  [[nodiscard]] CUdeviceptr address() const { return base_ + offset_; }
  template <class T = void>
  [[nodiscard]] T* pointer() const {  // for kernels only
    return reinterpret_cast<T*>(address());
  }
  [[nodiscard]] std::vector<std::byte> read() const {
    std::vector<std::byte> bytes(bytes_);
    driver().cuMemcpyDtoH(bytes.data(), address(), bytes_);
    return bytes;
  }

 private:
  size_t bytes_, offset_;
  CUdeviceptr base_ = 0;
};

class PinnedMemory {
 public:
  explicit PinnedMemory(size_t bytes) { driver().cuMemHostAlloc(&memory_, bytes, 0); }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  ~PinnedMemory() { (void)driver().cuMemFreeHost.result(memory_); }
  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(memory_);
  }

 private:
  void* memory_ = nullptr;
};

// A launch of one fold with one source: sink = scale * source. The operands are for kernels only.
inline quant::Launch conversion(const void* source, quant::Codec from, void* sink, quant::Codec to,
                                uint64_t elems, float scale = 1) {
  const quant::Source of{static_cast<const std::byte*>(source), from, scale};
  const quant::Sink into{static_cast<std::byte*>(sink), to, false};
  const quant::Fold fold{{&of, 1}, into, ncclFloat32, elems};
  return quant::packed({&fold, 1}).front();
}

inline quant::Launch scaled_copy(const DeviceMemory& source, const DeviceMemory& sink,
                                 uint64_t elems, float scale = 1) {
  return conversion(source.pointer(), quant::Codec::kFp32, sink.pointer(), quant::Codec::kFp32,
                    elems, scale);
}

}  // namespace slimccl::device::testing
