// Calls on CUDA memory only enqueue, and keep the order of streams, groups and communicators;
// messages of any size go all at once.
#include <numeric>

#include "cuda/gpu_ranks.h"
#include "slimccl/slimccl.h"

namespace slimccl::device::testing {
namespace {

constexpr size_t kMany = 300000;  // elements of a call of many pieces

// `count` numbers on the device.
class Numbers {
 public:
  Numbers(size_t count, int value) : count_(count), memory_(all(value).data(), count * 4) {}
  [[nodiscard]] int32_t* at(size_t element = 0) const {
    return memory_.pointer<int32_t>() + element;
  }
  [[nodiscard]] CUdeviceptr address() const { return memory_.address(); }
  // Whether `count` of them, from the given one on, are all `value` now. Waits for nothing.
  [[nodiscard]] bool are(int value, size_t from, size_t count) const {
    const auto bytes = memory_.read();
    std::vector<int32_t> seen(count);
    std::memcpy(seen.data(), bytes.data() + from * 4, count * 4);
    return seen == std::vector<int32_t>(count, value);
  }
  [[nodiscard]] bool are(int value) const { return are(value, 0, count_); }
  [[nodiscard]] std::vector<int32_t> all(int value) const {
    return std::vector<int32_t>(count_, value);
  }

 private:
  size_t count_;
  DeviceMemory memory_;
};

ncclResult_t sum(const Numbers& numbers, size_t count, ncclComm_t comm, CUstream stream) {
  return ncclAllReduce(numbers.at(), numbers.at(), count, ncclInt32, ncclSum, comm, handle(stream));
}

// The stream is held back: a call that waited for anything would not return.
TEST(StagedOrder, ACallOnlyEnqueues) {
  with_gpus(2, [](GpuRank& self) {
    const Stream stream;
    const Numbers numbers(kMany, 0), sent(1000, self.rank), received(1000, -1);
    const PinnedMemory ones(kMany * 4);
    std::fill_n(ones.as<int32_t>(), kMany, 1);
    Hold hold(stream);
    driver().cuMemcpyHtoDAsync(numbers.address(), ones.as<int32_t>(), kMany * 4, stream);
    SLIMCCL_OK(sum(numbers, kMany, self.comm, stream));
    SLIMCCL_OK(ncclGroupStart());
    SLIMCCL_OK(ncclSend(sent.at(), 1000, ncclInt32, 1 - self.rank, self.comm, handle(stream)));
    SLIMCCL_OK(ncclRecv(received.at(), 1000, ncclInt32, 1 - self.rank, self.comm, handle(stream)));
    SLIMCCL_OK(ncclGroupEnd());
    EXPECT_EQ(driver().cuStreamQuery.result(stream), CUDA_ERROR_NOT_READY);
    hold.let_go();
    stream.synchronize();
    EXPECT_TRUE(numbers.are(2));  // of what was copied behind the hold
    EXPECT_TRUE(received.are(1 - self.rank));
  });
}

// The second call's stream is free, the first one's is not: call order holds, on the same memory.
TEST(StagedOrder, OneCommunicatorOnTwoStreamsKeepsCallOrder) {
  with_gpus(2, [](GpuRank& self) {
    for (int round = 0; round < 5; ++round) {
      const Stream one, other;
      const Numbers numbers(kMany, 1);
      Hold hold(one);
      SLIMCCL_OK(sum(numbers, kMany, self.comm, one));
      SLIMCCL_OK(sum(numbers, kMany, self.comm, other));
      SLIMCCL_OK(sum(numbers, 10, self.comm, one));
      hold.let_go();
      other.synchronize();
      EXPECT_TRUE(numbers.are(4, 10, kMany - 10));
      one.synchronize();
      EXPECT_TRUE(numbers.are(8, 0, 10));
    }
  });
}

TEST(StagedOrder, AGroupIsOneOperationOnAllItsStreams) {
  with_gpus(2, [](GpuRank& self) {
    for (const bool first_is_late : {true, false}) {
      const Stream one, other;
      const Numbers first(kMany, 0), second(kMany, 0);
      const PinnedMemory ones(kMany * 4);
      std::fill_n(ones.as<int32_t>(), kMany, 1);
      Hold hold(first_is_late ? one : other);
      driver().cuMemcpyHtoDAsync(first.address(), ones.as<int32_t>(), kMany * 4, one);
      driver().cuMemcpyHtoDAsync(second.address(), ones.as<int32_t>(), kMany * 4, other);
      SLIMCCL_OK(ncclGroupStart());
      SLIMCCL_OK(sum(first, kMany, self.comm, one));
      SLIMCCL_OK(sum(second, kMany, self.comm, other));
      SLIMCCL_OK(ncclGroupEnd());
      EXPECT_EQ(driver().cuStreamQuery.result(one), CUDA_ERROR_NOT_READY);
      EXPECT_EQ(driver().cuStreamQuery.result(other), CUDA_ERROR_NOT_READY);
      // Time for a stream that does not wait, to do what is wrong.
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      hold.let_go();
      (first_is_late ? other : one).synchronize();  // is enough for both
      EXPECT_TRUE(first.are(2) && second.are(2));
    }
  });
}

TEST(StagedOrder, TwoCommunicatorsOnOneStreamAndOnTwo) {
  with_gpus(2, [](GpuRank& self) {
    ncclComm_t child;
    SLIMCCL_OK(ncclCommSplit(self.comm, 0, -self.rank, &child, nullptr));
    const Stream one, other;
    const Numbers first(kMany, 1), second(kMany, 3);
    SLIMCCL_OK(sum(first, kMany, self.comm, one));
    SLIMCCL_OK(sum(first, kMany, child, one));
    SLIMCCL_OK(sum(second, kMany, child, other));
    one.synchronize();
    other.synchronize();
    EXPECT_TRUE(first.are(4) && second.are(6));
    SLIMCCL_OK(ncclCommDestroy(child));
  });
}

// In one group a rank sends by one communicator what the other receives there first: neither
// stream may wait for one before the other is under way. The messages are more than is pinned.
TEST(StagedOrder, CommunicatorsOfAGroupProgressIndependently) {
  with_gpus(2, [](GpuRank& self) {
    ncclComm_t child;
    SLIMCCL_OK(ncclCommSplit(self.comm, 0, self.rank, &child, nullptr));
    const Stream stream;
    const Numbers sent(kMany, 5 + self.rank), received(kMany, 0);
    const int peer = 1 - self.rank;
    const ncclComm_t out = self.rank == 0 ? self.comm : child;
    const ncclComm_t in = self.rank == 0 ? child : self.comm;
    SLIMCCL_OK(ncclGroupStart());
    SLIMCCL_OK(ncclSend(sent.at(), kMany, ncclInt32, peer, out, handle(stream)));
    SLIMCCL_OK(ncclRecv(received.at(), kMany, ncclInt32, peer, in, handle(stream)));
    SLIMCCL_OK(ncclGroupEnd());
    stream.synchronize();
    EXPECT_TRUE(received.are(5 + peer));
    SLIMCCL_OK(ncclCommDestroy(child));
  });
}

// Messages that fit, that need more pinned memory, and beside a collective.
TEST(StagedOrder, MessagesOfAllSizesAtOnce) {
  with_gpus(3, [](GpuRank& self) {
    const Stream stream;
    for (const size_t count : {size_t{7}, size_t{30000}, kMany}) {
      const auto ranks = static_cast<size_t>(self.ranks);
      const Numbers sent(count * ranks, self.rank), received(count * ranks, -1);
      const Numbers reduced(kMany, 1);
      SLIMCCL_OK(ncclGroupStart());
      SLIMCCL_OK(sum(reduced, kMany, self.comm, stream));
      SLIMCCL_OK(
          ncclAlltoAll(sent.at(), received.at(), count, ncclInt32, self.comm, handle(stream)));
      SLIMCCL_OK(ncclGroupEnd());
      stream.synchronize();
      EXPECT_TRUE(reduced.are(self.ranks));
      for (size_t peer = 0; peer < ranks; ++peer)
        EXPECT_TRUE(received.are(static_cast<int>(peer), peer * count, count));
    }
  });
}

TEST(StagedOrder, GatherAndScatterAlsoInPlace) {
  with_gpus(3, [](GpuRank& self) {
    const Stream stream;
    constexpr size_t kCount = 5000;
    const Numbers gathered(3 * kCount, 10 + self.rank), mine(kCount, -1);
    const auto own = static_cast<size_t>(self.rank) * kCount;
    SLIMCCL_OK(ncclGather(gathered.at(own), gathered.at(), kCount, ncclInt32, 1, self.comm,
                          handle(stream)));
    SLIMCCL_OK(ncclScatter(gathered.at(), self.rank == 1 ? gathered.at(own) : mine.at(), kCount,
                           ncclInt32, 1, self.comm, handle(stream)));
    stream.synchronize();
    if (self.rank != 1) {
      EXPECT_TRUE(mine.are(10 + self.rank));
      return;
    }
    for (size_t rank = 0; rank < 3; ++rank)
      EXPECT_TRUE(gathered.are(10 + static_cast<int>(rank), rank * kCount, kCount));
  });
}

// One thread with all devices: groups are the only way.
TEST(StagedOrder, OneThreadWithSeveralDevices) {
  (void)driver();
  ncclComm_t comms[3];
  const OnDevice first(0), second(1), third(2);
  SLIMCCL_OK(ncclCommInitAll(comms, 3, nullptr));
  std::vector<Numbers> numbers;
  for (int device = 0; device < 3; ++device) {
    const OnDevice current(device);
    numbers.emplace_back(kMany, device);
    int seen = -1;
    SLIMCCL_OK(ncclCommCuDevice(comms[device], &seen));
    EXPECT_EQ(seen, device);
  }
  SLIMCCL_OK(ncclGroupStart());
  for (size_t device = 0; device < 3; ++device)
    SLIMCCL_OK(sum(numbers[device], kMany, comms[device], nullptr));
  SLIMCCL_OK(ncclGroupEnd());
  for (int device = 0; device < 3; ++device) {
    const OnDevice current(device);
    driver().cuStreamSynchronize(nullptr);
    EXPECT_TRUE(numbers[static_cast<size_t>(device)].are(3));
    SLIMCCL_OK(ncclCommDestroy(comms[device]));
  }
}

TEST(StagedOrder, WithoutADeviceAllIsAsOnHostMemory) {
  with_gpus(2, [](GpuRank& self) {
    int device = 7;
    SLIMCCL_OK(ncclCommCuDevice(self.host, &device));
    EXPECT_EQ(device, -1);
    SLIMCCL_OK(ncclCommCuDevice(self.comm, &device));
    EXPECT_EQ(device, self.rank);
    // Host streams serve host memory, on either communicator.
    cudaStream_t queue;
    SLIMCCL_OK(slimcclStreamCreate(&queue));
    for (const ncclComm_t comm : {self.host, self.comm}) {
      int32_t value = 1;
      SLIMCCL_OK(ncclAllReduce(&value, &value, 1, ncclInt32, ncclSum, comm, queue));
      SLIMCCL_OK(slimcclStreamSynchronize(queue));
      EXPECT_EQ(value, 2);
    }
    SLIMCCL_OK(slimcclStreamDestroy(queue));
    int32_t value = 1;  // null means "return when done" there
    SLIMCCL_OK(ncclAllReduce(&value, &value, 1, ncclInt32, ncclSum, self.host, nullptr));
    EXPECT_EQ(value, 2);
  });
}

TEST(StagedOrder, MemoryIsTheCurrentDevices) {
  void* memory = nullptr;
  SLIMCCL_OK(ncclMemAlloc(&memory, 100));
  EXPECT_EQ(device_of(driver(), memory), -1);
  SLIMCCL_OK(ncclMemFree(memory));
  {
    const OnDevice current(1);
    SLIMCCL_OK(ncclMemAlloc(&memory, 100));
    EXPECT_EQ(device_of(driver(), memory), 1);
  }
  const OnDevice keeps(1);
  SLIMCCL_OK(ncclMemAlloc(&memory, 100));
  SLIMCCL_OK(ncclMemFree(memory));
  EXPECT_EQ(device_of(driver(), memory), -1);
  EXPECT_EQ(ncclMemFree(memory), ncclInvalidArgument);
}

}  // namespace
}  // namespace slimccl::device::testing
