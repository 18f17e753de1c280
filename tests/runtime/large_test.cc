// Once beyond 2^31 bytes in one slice: offsets, counts and messages must be 64-bit all the way.
// Needs about 10 GiB.
#include <gtest/gtest.h>
#include <sys/sysinfo.h>

#include "base/error.h"
#include "runtime/cluster.h"

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

TEST(Large, AnInPlaceAllGatherBeyondTwoToThe31Bytes) {
  if (!enough_memory())
    GTEST_SKIP() << "SKIPPED: needs " << kNeededBytes << " bytes of free memory";
  Cluster pair("2x1", {.segment_elems = 1 << 18, .window = 4, .arena_bytes = uint64_t{256} << 20});
  std::vector<std::unique_ptr<uint16_t[]>> buffers;
  const Shape shape{.op = Collective::kAllGather, .type = ncclBfloat16, .count = kElems};
  for (int rank = 0; rank < 2; ++rank) {
    buffers.push_back(std::make_unique_for_overwrite<uint16_t[]>(2 * kElems));
    uint16_t* own = buffers.back().get() + static_cast<uint64_t>(rank) * kElems;
    for (uint64_t i = 0; i < kElems; ++i)
      own[i] = pattern(static_cast<uint64_t>(rank) * kElems + i);
    pair.executors[static_cast<size_t>(rank)]->start(
        {shape,
         {&collectives::find_row(shape.op, "two_hop"), Codecs{Codec::kTensor, Codec::kBf16}, "",
          ""},
         reinterpret_cast<std::byte*>(own),
         reinterpret_cast<std::byte*>(buffers.back().get()),
         collectives::Alias::at(-static_cast<int64_t>(static_cast<uint64_t>(rank) * kElems * 2)),
         true,
         {}});
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
