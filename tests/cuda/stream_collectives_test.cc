// Collectives that run on streams, over messages on streams, give the reference's bits: every row
// that sums, every codec, in and out of place, in one segment and in many, alone and coalesced.
#include "cuda/stream_ranks.h"

namespace slimccl::device::testing {
namespace {

constexpr uint64_t kLargeArena = uint64_t{4} << 20;
constexpr Collective kSharded[] = {Collective::kAllGather, Collective::kReduceScatter,
                                   Collective::kAllReduce};
constexpr ncclDataType_t kFloats[] = {ncclFloat32, ncclBfloat16, ncclFloat16};

class StreamCollectives : public GpuTest {};

TEST_F(StreamCollectives, TwoHopGivesTheReferencesBits) {
  for (const char* topology : {"2x2", "3+1", "0,1,0,1", "4x2"}) {
    std::vector<Case> cases;
    for (const Collective op : kSharded) {
      for (const ncclDataType_t type : kFloats) {
        for (const bool in_place : {false, true}) {
          cases.push_back({.op = op, .type = type, .count = 2501, .in_place = in_place});
        }
      }
    }
    run_cases(topology, kLargeArena, cases);
  }
}

}  // namespace
}  // namespace slimccl::device::testing
