// Once beyond 2^31 bytes in one slice: offsets, counts and messages must be 64-bit all the way.
// Needs about 10 GiB.
#include <gtest/gtest.h>
#include <sys/sysinfo.h>

#include <chrono>

#include "base/error.h"
#include "runtime/executor.h"
#include "transport/loopback/loopback.h"

namespace slimccl::runtime {
namespace {

using collectives::Codecs;
using collectives::Collective;
using collectives::Shape;
using quant::Codec;

constexpr uint64_t kElems = (uint64_t{1} << 30) + 4099;  // bf16: 2^31 bytes and a bit, per rank
constexpr uint64_t kNeededBytes = uint64_t{11} << 30;

bool enough_memory() {
  struct sysinfo info {};
  return sysinfo(&info) == 0 && (info.freeram + info.bufferram) * info.mem_unit > kNeededBytes;
}

// Tells every block of 64 elements from its neighbours.
uint16_t pattern(uint64_t index) {
  return static_cast<uint16_t>(0x3f00 + (index / 64 * 2654435761u >> 8) % 256);
}

class Pair {
 public:
  explicit Pair(const ExecutorLimits& limits) : topology_(topology::parse("2x1")) {
    const auto hub = transport::make_loopback_hub(2);
    for (int rank = 0; rank < 2; ++rank) {
      routers_.push_back(std::make_unique<Router>(2));
      routers_.back()->add(transport::make_loopback(hub, rank), {0, 1});
      executors_.push_back(
          std::make_unique<ProgressExecutor>(topology_, rank, *routers_.back(), limits));
    }
  }

  void start(int rank, const Operation& operation) {
    executors_[static_cast<size_t>(rank)]->start(operation);
  }

  bool run(double seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < end) {
      for (size_t rank = 0; rank < 2; ++rank) {
        routers_[rank]->progress();
        executors_[rank]->progress();
      }
      if (executors_[0]->idle() && executors_[1]->idle()) return true;
    }
    return false;
  }

 private:
  topology::Topology topology_;
  std::vector<std::unique_ptr<Router>> routers_;
  std::vector<std::unique_ptr<ProgressExecutor>> executors_;
};

TEST(Large, AnInPlaceAllGatherBeyondTwoToThe31Bytes) {
  if (!enough_memory())
    GTEST_SKIP() << "SKIPPED: needs " << kNeededBytes << " bytes of free memory";
  Pair pair({.segment_elems = 1 << 18, .window = 4, .arena_bytes = uint64_t{256} << 20});
  std::vector<std::unique_ptr<uint16_t[]>> buffers;
  const Shape shape{.op = Collective::kAllGather, .type = ncclBfloat16, .count = kElems};
  for (int rank = 0; rank < 2; ++rank) {
    buffers.push_back(std::make_unique_for_overwrite<uint16_t[]>(2 * kElems));
    uint16_t* own = buffers.back().get() + static_cast<uint64_t>(rank) * kElems;
    for (uint64_t i = 0; i < kElems; ++i)
      own[i] = pattern(static_cast<uint64_t>(rank) * kElems + i);
    pair.start(
        rank,
        {shape,
         {&collectives::find_row(shape.op, "two_hop"), Codecs{Codec::kTensor, Codec::kBf16}, "",
          ""},
         reinterpret_cast<std::byte*>(own),
         reinterpret_cast<std::byte*>(buffers.back().get()),
         collectives::Alias::at(-static_cast<int64_t>(static_cast<uint64_t>(rank) * kElems * 2)),
         true,
         1.0f});
  }
  ASSERT_TRUE(pair.run(300));
  for (int rank = 0; rank < 2; ++rank) {
    for (uint64_t i = 0; i < 2 * kElems; ++i) {
      if (buffers[static_cast<size_t>(rank)][i] != pattern(i))
        FAIL() << "rank " << rank << " element " << i;
    }
  }
}

}  // namespace
}  // namespace slimccl::runtime
