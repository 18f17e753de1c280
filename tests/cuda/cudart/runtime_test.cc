// The emulated runtime itself: devices, versions, errors, and what is not emulated.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "cuda/cudart/cuda_test.h"
#include "cuda/emulated/exported.h"

extern "C" {  // what nvcc's code calls before main
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*,
                            dim3*, int*);
}

namespace slimccl::cudart::testing {
namespace {

TEST_F(CudartTest, DevicesSayWhatTheyAre) {
  int count = 0, version = 0, driver_version = 0, warp = 0;
  ASSERT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 2);
  ASSERT_EQ(cudaRuntimeGetVersion(&version), cudaSuccess);
  EXPECT_EQ(version, CUDART_VERSION);
  ASSERT_EQ(cudaDriverGetVersion(&driver_version), cudaSuccess);
  EXPECT_GE(driver_version, version);
  cudaDeviceProp properties;
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 1), cudaSuccess);
  EXPECT_STREQ(properties.name, "Emulated CUDA device 1");
  EXPECT_EQ(properties.major * 10 + properties.minor, 90);
  EXPECT_EQ(properties.maxThreadsPerBlock, 1024);
  EXPECT_EQ(properties.pciBusID, 2);
  EXPECT_EQ(properties.memoryPoolsSupported, 0);
  ASSERT_EQ(cudaDeviceGetAttribute(&warp, cudaDevAttrWarpSize, 0), cudaSuccess);
  EXPECT_EQ(warp, 32);
  EXPECT_EQ(cudaDeviceGetAttribute(&warp, cudaDevAttrWarpSize, 2), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 2), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
}

TEST_F(CudartTest, EachThreadHasADevice) {
  int here = -1;
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  std::thread([] {
    int there = -1;
    EXPECT_EQ(cudaGetDevice(&there), cudaSuccess);
    EXPECT_EQ(there, 0);
  }).join();
  ASSERT_EQ(cudaGetDevice(&here), cudaSuccess);
  EXPECT_EQ(here, 1);
}

// What uses the driver beside the runtime sees the same machine.
TEST_F(CudartTest, TheDriverSharesItsState) {
  int ordinal = -1;
  void* memory = nullptr;
  device::CUcontext context = nullptr;
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(device::cuCtxGetDevice(&ordinal), device::CUDA_SUCCESS);
  EXPECT_EQ(ordinal, 1);
  ASSERT_EQ(cudaMalloc(&memory, 64), cudaSuccess);
  EXPECT_EQ(device::cuMemFree_v2(reinterpret_cast<device::CUdeviceptr>(memory)),
            device::CUDA_SUCCESS);
  ASSERT_EQ(device::cuDevicePrimaryCtxRetain(&context, 0), device::CUDA_SUCCESS);
  ASSERT_EQ(device::cuCtxSetCurrent(context), device::CUDA_SUCCESS);
  ASSERT_EQ(cudaGetDevice(&ordinal), cudaSuccess);
  EXPECT_EQ(ordinal, 0);
  EXPECT_EQ(device::cuDevicePrimaryCtxRelease_v2(0), device::CUDA_SUCCESS);
}

TEST_F(CudartTest, TheLastErrorIsKeptUntilAsked) {
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(-1), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // does not end it
  std::thread([] { EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess); }).join();
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_STREQ(cudaGetErrorName(cudaErrorInvalidDevice), "cudaErrorInvalidDevice");
  EXPECT_STREQ(cudaGetErrorString(cudaSuccess), "no error");
  EXPECT_STREQ(cudaGetErrorName(static_cast<cudaError_t>(12345)), "unrecognized error code");
}

TEST_F(CudartTest, TheDriversFunctionsAreFound) {
  void* function = nullptr;
  auto status = cudaDriverEntryPointVersionNotSufficent;
  ASSERT_EQ(cudaGetDriverEntryPointByVersion("cuMemAlloc", &function, 13000, 0, &status),
            cudaSuccess);
  EXPECT_EQ(status, cudaDriverEntryPointSuccess);
  EXPECT_EQ(function, reinterpret_cast<void*>(device::cuMemAlloc_v2));
  EXPECT_EQ(cudaGetDriverEntryPointByVersion("cuMulticastCreate", &function, 13000, 0, &status),
            cudaErrorSymbolNotFound);
  EXPECT_EQ(status, cudaDriverEntryPointSymbolNotFound);
  EXPECT_EQ(function, nullptr);
}

// refused.cc
TEST_F(CudartTest, WhatIsNotEmulatedSaysSo) {
  void* memory = nullptr;
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(cudaMallocAsync(&memory, 64, cudaStream_t{}), cudaErrorNotSupported);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNotSupported);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "[emulated cudart] cudaMallocAsync: not emulated\n");
}

// kernel.cc
TEST_F(CudartTest, AKernelWithoutAHostVersionSaysSo) {
  static const char stub = 0;
  __cudaRegisterFunction(nullptr, &stub, nullptr, "_Z4mine", -1, nullptr, nullptr, nullptr, nullptr,
                         nullptr);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(cudaLaunchKernel(&stub, dim3(1), dim3(32), nullptr, 0, nullptr),
            cudaErrorInvalidDeviceFunction);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDeviceFunction);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "[emulated cudart] kernel without a host version: _Z4mine\n");
}

// runtime.h: slimccl_emulated_admit() in call().
TEST_F(CudartTest, TheNthCallFailsWhereAskedTo) {
  void *first = nullptr, *second = nullptr;
  slimccl_emulated_fail("cudaMalloc", 2, cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&first, 64), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&second, 64), cudaErrorMemoryAllocation);
  EXPECT_EQ(second, nullptr);
  EXPECT_EQ(cudaFree(first), cudaSuccess);
}

// In a process of its own: the environment is read once.
int result_in(const char* variable, const char* value, cudaError_t (*body)()) {
  setenv("RANK", "1", 1);
  setenv(variable, value, 1);
  return static_cast<int>(body());
}

// emulated/state.cc: the comparison of ranks in State().
TEST(CudartProcessTest, AnErrorIsInjectedInOneRankOnly) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto in = [](const char* fail) {
    return result_in("SLIMCCL_EMULATED_FAIL", fail, [] { return cudaStreamSynchronize(nullptr); });
  };
  EXPECT_EXIT(std::exit(in("cudaStreamSynchronize:1:214")), ::testing::ExitedWithCode(214), "");
  EXPECT_EXIT(std::exit(in("cudaStreamSynchronize:1:214:1")), ::testing::ExitedWithCode(214), "");
  EXPECT_EXIT(std::exit(in("cudaStreamSynchronize:1:214:0")), ::testing::ExitedWithCode(0), "");
}

TEST(CudartProcessTest, AnOldDriverOrNoDeviceIsRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto in = [](const char* variable, const char* value) {
    return result_in(variable, value, [] { return cudaFree(nullptr); });
  };
  EXPECT_EXIT(std::exit(in("SLIMCCL_EMULATED_VERSION", "12080")), ::testing::ExitedWithCode(35),
              "");
  EXPECT_EXIT(std::exit(in("SLIMCCL_EMULATED_DEVICES", "0")), ::testing::ExitedWithCode(100), "");
}

}  // namespace
}  // namespace slimccl::cudart::testing
