// Collectives on CUDA memory give the bits that the same calls give on host memory: every
// collective, type and reduction, in and out of place, in one piece and in many, on streams with
// random delays.
#include "cuda/gpu_ranks.h"

namespace slimccl::device::testing {
namespace {

constexpr ncclDataType_t kTypes[] = {ncclInt8,    ncclUint8,    ncclInt32,      ncclUint32,
                                     ncclInt64,   ncclUint64,   ncclFloat16,    ncclFloat32,
                                     ncclFloat64, ncclBfloat16, ncclFloat8e4m3, ncclFloat8e5m2};

enum class Kind { kAllGather, kReduceScatter, kAllReduce, kBroadcast, kReduce };
constexpr Kind kKinds[] = {Kind::kAllGather, Kind::kReduceScatter, Kind::kAllReduce,
                           Kind::kBroadcast, Kind::kReduce};
constexpr int kRoot = 1;

struct Case {
  Kind kind;
  ncclDataType_t type;
  size_t count;
  ncclRedOp_t op = ncclSum;
  bool in_place = false;
};

size_t input_bytes(const Case& each, int ranks) {
  const size_t slots = each.kind == Kind::kReduceScatter ? static_cast<size_t>(ranks) : 1;
  return slots * each.count * quant::type_bytes(each.type);
}
size_t output_bytes(const Case& each, int ranks) {
  const size_t slots = each.kind == Kind::kAllGather ? static_cast<size_t>(ranks) : 1;
  return slots * each.count * quant::type_bytes(each.type);
}

ncclResult_t call(const Case& each, const void* input, void* output, ncclComm_t comm,
                  cudaStream_t stream) {
  switch (each.kind) {
    case Kind::kAllGather:
      return ncclAllGather(input, output, each.count, each.type, comm, stream);
    case Kind::kReduceScatter:
      return ncclReduceScatter(input, output, each.count, each.type, each.op, comm, stream);
    case Kind::kAllReduce:
      return ncclAllReduce(input, output, each.count, each.type, each.op, comm, stream);
    case Kind::kBroadcast:
      return ncclBroadcast(input, output, each.count, each.type, kRoot, comm, stream);
    default:
      return ncclReduce(input, output, each.count, each.type, each.op, kRoot, comm, stream);
  }
}

// Both buffers of a call in one image: in place as NCCL has it, or one behind the other.
struct Layout {
  size_t input = 0, output = 0, bytes = 0;
};
Layout layout_of(const Case& each, int ranks, int rank) {
  const size_t in = input_bytes(each, ranks), out = output_bytes(each, ranks);
  const size_t own = static_cast<size_t>(rank) * each.count * quant::type_bytes(each.type);
  if (!each.in_place) return {0, in + 64, in + 64 + out};
  if (each.kind == Kind::kAllGather) return {own, 0, out};
  if (each.kind == Kind::kReduceScatter) return {0, own, in};
  return {0, 0, in};
}

// What the image's output part is after the call on host memory.
std::vector<std::byte> expected(const GpuRank& self, const Case& each, const Layout& layout,
                                std::vector<std::byte> image) {
  EXPECT_EQ(call(each, &image[layout.input], &image[layout.output], self.host, nullptr),
            ncclSuccess)
      << last_error();
  return image;
}

bool equal(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

bool takes_part(const Case& each, int rank) { return each.kind != Kind::kReduce || rank == kRoot; }

void compare(const GpuRank& self, const Case& each, CUstream stream) {
  const Layout layout = layout_of(each, self.ranks, self.rank);
  const auto image = numbers(layout.bytes, static_cast<unsigned>(7 * self.rank + 1));
  const auto wanted = expected(self, each, layout, image);
  const DeviceMemory memory(image.data(), image.size());
  std::byte* const base = memory.pointer<std::byte>();
  SLIMCCL_OK(call(each, base + layout.input, base + layout.output, self.comm, handle(stream)));
  driver().cuStreamSynchronize(stream);
  const auto seen = memory.read();
  const size_t out = takes_part(each, self.rank) ? output_bytes(each, self.ranks) : 0;
  EXPECT_EQ(std::memcmp(&seen[layout.output], &wanted[layout.output], out), 0)
      << "kind " << static_cast<int>(each.kind) << ", " << quant::type_name(each.type) << " x "
      << each.count << ", op " << each.op << (each.in_place ? ", in place" : "") << ", rank "
      << self.rank << " of " << self.ranks;
}

TEST(StagedCollectives, EveryTypeGivesTheHostsBits) {
  with_gpus(3, [](GpuRank& self) {
    const Stream stream;
    for (const Kind kind : kKinds) {
      for (const ncclDataType_t type : kTypes) compare(self, {kind, type, 1000}, stream);
    }
  });
}

TEST(StagedCollectives, EveryReductionGivesTheHostsBits) {
  with_gpus(3, [](GpuRank& self) {
    const Stream stream;
    for (const Kind kind : {Kind::kReduceScatter, Kind::kAllReduce, Kind::kReduce}) {
      for (const ncclRedOp_t op : {ncclProd, ncclMax, ncclMin, ncclAvg}) {
        compare(self, {kind, ncclFloat32, 777, op}, stream);
        compare(self, {kind, ncclInt32, 777, op, true}, stream);
      }
    }
  });
}

// 1 MiB of pinned memory has four slots: these calls have many pieces each, the last one short.
TEST(StagedCollectives, ManyPiecesGiveTheHostsBits) {
  with_gpus(3, [](GpuRank& self) {
    const Stream stream;
    for (const Kind kind : kKinds) {
      for (const bool in_place : {false, true}) {
        compare(self, {kind, ncclFloat32, 200003, ncclSum, in_place}, stream);
        compare(self, {kind, ncclBfloat16, 150001, ncclAvg, in_place}, stream);
      }
    }
  });
}

TEST(StagedCollectives, OneRankAlone) {
  with_gpus(1, [](GpuRank& self) {
    const Stream stream;
    for (const Kind kind : kKinds) {
      if (kind == Kind::kBroadcast || kind == Kind::kReduce) continue;  // there is no rank 1
      for (const size_t count : {size_t{1}, size_t{300001}}) {
        compare(self, {kind, ncclFloat32, count, ncclSum, false}, stream);
        compare(self, {kind, ncclFloat32, count, ncclSum, true}, stream);
      }
    }
  });
}

TEST(StagedCollectives, DefaultStreamsAreStreams) {
  with_gpus(2, [](GpuRank& self) {
    compare(self, {Kind::kAllReduce, ncclFloat32, 1000}, nullptr);
    compare(self, {Kind::kAllReduce, ncclFloat32, 1000}, legacy_stream());
    compare(self, {Kind::kAllReduce, ncclFloat32, 1000}, per_thread_stream());
  });
}

// Device and host memory in one call, in one piece and in many; host memory alone.
TEST(StagedCollectives, MemoryOfBothKindsInOneCall) {
  with_gpus(2, [](GpuRank& self) {
    const Stream stream;
    for (const size_t count : {size_t{500}, size_t{300001}}) {
      const Case each{Kind::kAllGather, ncclFloat32, count};
      const auto values = numbers(input_bytes(each, 2), static_cast<unsigned>(self.rank));
      std::vector<std::byte> wanted(output_bytes(each, 2)), seen(wanted.size());
      SLIMCCL_OK(call(each, values.data(), wanted.data(), self.host, nullptr));
      const DeviceMemory input(values.data(), values.size());
      const DeviceMemory output(wanted.size());
      SLIMCCL_OK(call(each, input.pointer(), seen.data(), self.comm, handle(stream)));
      stream.synchronize();
      EXPECT_TRUE(equal(seen, wanted));
      std::ranges::fill(seen, std::byte{0});
      SLIMCCL_OK(call(each, values.data(), seen.data(), self.comm, handle(stream)));
      stream.synchronize();
      EXPECT_TRUE(equal(seen, wanted));
      SLIMCCL_OK(call(each, values.data(), output.pointer(), self.comm, handle(stream)));
      stream.synchronize();
      EXPECT_TRUE(equal(output.read(), wanted));
    }
  });
}

// One rank's buffers are the host's, the other's its device's: they must cut the call alike.
TEST(StagedCollectives, KindsOfMemoryMayDifferBetweenRanks) {
  with_gpus(2, [](GpuRank& self) {
    const Stream stream;
    const Case each{Kind::kAllReduce, ncclFloat32, 300001};
    if (self.rank == 0) return compare(self, each, stream);
    const auto values = numbers(input_bytes(each, 2), static_cast<unsigned>(7 * self.rank + 1));
    std::vector<std::byte> wanted(values.size()), seen(values.size());
    SLIMCCL_OK(call(each, values.data(), wanted.data(), self.host, nullptr));
    SLIMCCL_OK(call(each, values.data(), seen.data(), self.comm, handle(stream)));
    stream.synchronize();
    EXPECT_TRUE(equal(seen, wanted));
  });
}

// The stream writes the scalar after the operation was made, and before the call runs.
TEST(StagedCollectives, AScalarOnTheDeviceIsReadOnTheStream) {
  with_gpus(2, [](GpuRank& self) {
    const Stream stream;
    for (const size_t count : {size_t{300}, size_t{300001}}) {
      const std::vector<float> values(count, 3);
      const float before = 100, scale = self.rank == 0 ? 2 : 5;
      const DeviceMemory scalar(&before, sizeof before);
      const DeviceMemory input(values.data(), count * 4), output(count * 4);
      ncclRedOp_t op;
      SLIMCCL_OK(ncclRedOpCreatePreMulSum(&op, scalar.pointer(), ncclFloat32, ncclScalarDevice,
                                          self.comm));
      driver().cuMemcpyHtoDAsync(scalar.address(), &scale, sizeof scale, stream);
      SLIMCCL_OK(ncclAllReduce(input.pointer(), output.pointer(), count, ncclFloat32, op, self.comm,
                               handle(stream)));
      SLIMCCL_OK(ncclRedOpDestroy(op, self.comm));
      stream.synchronize();
      const auto bytes = output.read();
      std::vector<float> seen(count);
      std::memcpy(seen.data(), bytes.data(), bytes.size());
      EXPECT_EQ(seen, std::vector<float>(count, 21));
    }
  });
}

}  // namespace
}  // namespace slimccl::device::testing
