// The emulated runtime's memory and copies, through the names that torch is linked to.
#include <cstring>
#include <numeric>
#include <vector>

#include "cuda/cudart/cuda_test.h"

namespace slimccl::cudart::testing {
namespace {

constexpr size_t kElems = 1000, kBytes = kElems * sizeof(int);

std::vector<int> counted(int first) {
  std::vector<int> values(kElems);
  std::iota(values.begin(), values.end(), first);
  return values;
}

TEST_F(CudartTest, CopiesBothWays) {
  const std::vector<int> sent = counted(1);
  std::vector<int> back(kElems);
  const DeviceMemory one(kBytes), two(kBytes);
  ASSERT_EQ(cudaMemcpy(one, sent.data(), kBytes, cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(two, one, kBytes, cudaMemcpyDeviceToDevice), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(back.data(), two, kBytes, cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(back, sent);
  std::vector<int> on_host(kElems);
  ASSERT_EQ(cudaMemcpy(on_host.data(), back.data(), kBytes, cudaMemcpyHostToHost), cudaSuccess);
  EXPECT_EQ(on_host, sent);
}

// memory.cc: require_direction().
TEST_F(CudartTest, ACopyOfAnotherKindIsRefused) {
  std::vector<int> host(kElems);
  const DeviceMemory memory(kBytes);
  for (const auto kind : {cudaMemcpyHostToHost, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice}) {
    EXPECT_EQ(cudaMemcpy(memory, host.data(), kBytes, kind), cudaErrorInvalidMemcpyDirection);
  }
  EXPECT_EQ(cudaMemcpy(memory, host.data(), kBytes + 1, cudaMemcpyDefault), cudaErrorInvalidValue);
}

TEST_F(CudartTest, CopiesRowsOfOtherPitches) {
  const std::vector<int> sent = counted(1);
  std::vector<int> back(kElems);
  const DeviceMemory memory(kBytes);
  ASSERT_EQ(cudaMemset(memory, 0, kBytes), cudaSuccess);
  // Ten rows of three numbers: from every fifth of them to every seventh.
  ASSERT_EQ(cudaMemcpy2DAsync(memory, 28, sent.data(), 20, 12, 10, cudaMemcpyHostToDevice, nullptr),
            cudaSuccess);
  ASSERT_EQ(cudaMemcpy(back.data(), memory, kBytes, cudaMemcpyDeviceToHost), cudaSuccess);
  std::vector<int> expected(kElems);
  for (size_t row = 0; row < 10; ++row) {
    for (size_t i = 0; i < 3; ++i) expected[row * 7 + i] = sent[row * 5 + i];
  }
  EXPECT_EQ(back, expected);
}

TEST_F(CudartTest, CopiesBetweenDevices) {
  const std::vector<int> sent = counted(5);
  std::vector<int> back(kElems);
  const DeviceMemory of_0(kBytes);
  ASSERT_EQ(cudaMemcpy(of_0, sent.data(), kBytes, cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  const DeviceMemory of_1(kBytes);
  ASSERT_EQ(cudaMemcpyPeerAsync(of_1, 1, of_0, 0, kBytes, nullptr), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(back.data(), of_1, kBytes, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(back, sent);
  EXPECT_EQ(cudaMemcpyPeerAsync(of_1, 0, of_0, 0, kBytes, nullptr), cudaErrorInvalidValue);
}

// Behind the addresses lies what kernels would touch.
TEST_F(CudartTest, AStandInForKernelsReachesTheBytes) {
  const DeviceMemory memory(kBytes);
  auto* bytes = static_cast<char*>(memory.get()) + slimccl_emulated_distance();
  std::strcpy(bytes, "written behind the address");
  std::vector<char> back(kBytes);
  ASSERT_EQ(cudaMemcpy(back.data(), memory, kBytes, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_STREQ(back.data(), "written behind the address");
  EXPECT_DEATH(*static_cast<volatile char*>(memory.get()) = 1, "");
}

TEST_F(CudartTest, PointersTellWhereTheyAre) {
  const DeviceMemory memory(kBytes);
  cudaPointerAttributes attributes;
  ASSERT_EQ(cudaPointerGetAttributes(&attributes, static_cast<char*>(memory.get()) + 5),
            cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(attributes.device, 0);
  std::vector<int> host(kElems);
  ASSERT_EQ(cudaPointerGetAttributes(&attributes, host.data()), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
  ASSERT_EQ(cudaHostRegister(host.data(), kBytes, 0), cudaSuccess);
  EXPECT_EQ(cudaHostRegister(host.data() + 1, 4, 0), cudaErrorHostMemoryAlreadyRegistered);
  ASSERT_EQ(cudaPointerGetAttributes(&attributes, host.data() + kElems - 1), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
  EXPECT_EQ(attributes.hostPointer, host.data() + kElems - 1);
  EXPECT_EQ(cudaFreeHost(host.data()), cudaErrorInvalidValue);
  ASSERT_EQ(cudaHostUnregister(host.data()), cudaSuccess);
  EXPECT_EQ(cudaHostUnregister(host.data()), cudaErrorHostMemoryNotRegistered);
}

TEST_F(CudartTest, MemoryIsCountedAndFreedFromAnyDevice) {
  size_t before = 0, during = 0, after = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&before, &total), cudaSuccess);
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, kBytes), cudaSuccess);
  ASSERT_EQ(cudaMemGetInfo(&during, &total), cudaSuccess);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  ASSERT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  ASSERT_EQ(cudaMemGetInfo(&after, &total), cudaSuccess);
  EXPECT_EQ(before - during, kBytes);
  EXPECT_EQ(after, before);
  EXPECT_EQ(cudaMalloc(&memory, total + 1), cudaErrorMemoryAllocation);
}

TEST_F(CudartTest, NothingIsAllocatedForNoBytes) {
  void* memory = this;
  ASSERT_EQ(cudaMalloc(&memory, 0), cudaSuccess);
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
}

}  // namespace
}  // namespace slimccl::cudart::testing
