// The end of a communicator whose device still waits for ranks that are gone, on emulated CUDA.
#include <gtest/gtest.h>

#include <chrono>
#include <future>

#include "core/ending.h"
#include "core/kernels.h"
#include "core/state.h"
#include "device/cuda/memory.h"
#include "topology/topology.h"

namespace slimccl::overlay {
namespace {

const slimccl_nccl fake = [] {
  slimccl_nccl nccl{};
  nccl.path = "/fake/libnccl.so.2";
  return nccl;
}();

std::shared_ptr<Compressor> compressor(ncclComm_t comm) {
  return make_compressor(fake, comm, 0, topology::parse("2x1"), 0, 32 << 20);
}

TEST(OverlayGraves, AnAbortDoesNotWaitForTheDevice) {
  const std::string kernels = load_kernels(0);
  if (kernels != kKernelsOk) GTEST_SKIP() << kernels;
  const device::Driver& driver = loaded_gpu()->driver;
  const auto comm = reinterpret_cast<ncclComm_t>(uintptr_t{1} << 12);
  State& state = State::instance();
  Entry& entry = state.begin(&fake, comm, 0, 2, "");
  entry.set_compressor(compressor(comm));

  const device::CurrentContext current(driver, entry.compressor_now()->team.context());
  device::CUstream held = nullptr, other = nullptr;
  driver.cuStreamCreate(&held, device::CU_STREAM_NON_BLOCKING);
  driver.cuStreamCreate(&other, device::CU_STREAM_NON_BLOCKING);
  device::CUdeviceptr word = 0;
  driver.cuMemAlloc(&word, sizeof(uint32_t));
  driver.cuMemsetD8(word, 0, sizeof(uint32_t));
  driver.cuStreamWaitValue32(held, word, 1, device::CU_STREAM_WAIT_VALUE_GEQ);

  ASSERT_TRUE(begin_end(entry, End::kAborted));
  auto ended = std::async(std::launch::async, [&] { end(entry, End::kAborted); });
  EXPECT_EQ(ended.wait_for(std::chrono::seconds(10)), std::future_status::ready)
      << "freeing memory waits for work that never ends";
  EXPECT_EQ(state.graves.size(), 1u);
  EXPECT_EQ(entry.compressor_now(), nullptr);

  driver.cuStreamWriteValue32(other, word, 1, 0);
  ended.wait();
  driver.cuStreamSynchronize(held);
  const auto next = compressor(comm);
  EXPECT_TRUE(state.graves.empty()) << "the memory is given back at the next set-up";
}

// PyTorch captures in the mode in which another thread's calls spoil a capture.
TEST(OverlayGraves, SetUpsSamplesAndEndsDoNotSpoilAnothersCapture) {
  const std::string kernels = load_kernels(0);
  if (kernels != kKernelsOk) GTEST_SKIP() << kernels;
  const device::Driver& driver = loaded_gpu()->driver;
  using Begin = device::CUresult(device::CUstream, unsigned mode);
  using Finish = device::CUresult(device::CUstream, void** graph);
  const auto begin = reinterpret_cast<Begin*>(driver.symbol("begin", "cuStreamBeginCapture_v2"));
  const auto finish = reinterpret_cast<Finish*>(driver.symbol("finish", "cuStreamEndCapture"));
  const auto first = compressor(nullptr);
  const device::CurrentContext current(driver, first->team.context());
  device::CUstream captured = nullptr, other = nullptr;
  driver.cuStreamCreate(&captured, device::CU_STREAM_NON_BLOCKING);
  driver.cuStreamCreate(&other, device::CU_STREAM_NON_BLOCKING);
  device::CUdeviceptr data = 0;
  driver.cuMemAlloc(&data, 4096);

  ASSERT_EQ(begin(captured, 0), device::CUDA_SUCCESS);  // CU_STREAM_CAPTURE_MODE_GLOBAL
  std::async(std::launch::async, [&] {
    EXPECT_EQ(load_kernels(0), kKernelsOk);
    const auto second = compressor(nullptr);
    second->sampler.take(0, reinterpret_cast<const void*>(data), 1024, ncclFloat, other);
    (void)second->sampler.arrived();
  }).wait();
  void* graph = nullptr;
  EXPECT_EQ(finish(captured, &graph), device::CUDA_SUCCESS) << "the capture was spoilt";
}

}  // namespace
}  // namespace slimccl::overlay
