#include "runtime/stream/stream_team.h"

#include <utility>

#include "base/error.h"
#include "device/cuda/memory.h"

namespace slimccl::runtime {
namespace {

uint64_t enough(uint64_t arena_bytes, const topology::Topology& topology) {
  const uint64_t least = StreamTeam::least_arena_bytes(topology);
  check(arena_bytes >= least, ncclInvalidArgument, "an arena of ", arena_bytes,
        " bytes of GPU memory is too small for ", topology.ranks(), " ranks on ", topology.nodes(),
        " nodes (", to_text(topology), "): give it at least ", least, " bytes");
  return arena_bytes;
}

}  // namespace

uint64_t StreamTeam::least_arena_bytes(const topology::Topology& topology) {
  return DeviceArena::kSlots * least_slot_bytes(topology);
}

StreamTeam::StreamTeam(const device::Driver& driver, const device::FoldKernels& kernels, int device,
                       topology::Topology topology, int rank, std::unique_ptr<StreamLink> link,
                       uint64_t arena_bytes)
    : driver_(driver),
      kernels_(kernels),
      device_(device),
      topology_(std::move(topology)),
      rank_(rank),
      arena_(driver, device, enough(arena_bytes, topology_)),
      link_(std::move(link)) {
  const device::CurrentContext current(driver_, arena_.context());
  kernels_.prepare();
}

}  // namespace slimccl::runtime
