// One communicator's side of the StreamExecutor: who is in it, how it reaches them, and its arena.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "device/cuda/fold_kernels.h"
#include "runtime/stream/device_arena.h"
#include "runtime/stream/stream_schedule.h"
#include "topology/topology.h"

namespace slimccl::runtime {

// The messages of one communicator. Sends, receives and gathers in the node are made between
// start() and finish(), and are enqueued on `stream` by finish(); a pair's messages match in their
// order. Bytes of device memory. Each throws Error if it cannot. One group may hold messages of
// several links: start() and finish() of any one of them hold for all.
class StreamLink {
 public:
  StreamLink() = default;
  StreamLink(const StreamLink&) = delete;
  StreamLink& operator=(const StreamLink&) = delete;
  virtual ~StreamLink() = default;

  virtual void start() = 0;
  virtual void send(const void* from, uint64_t bytes, int peer, device::CUstream stream) = 0;
  virtual void recv(void* into, uint64_t bytes, int peer, device::CUstream stream) = 0;
  // Among the ranks of this one's node, in their order: each has `bytes`, and everybody gets all.
  virtual void node_gather(const void* from, void* into, uint64_t bytes,
                           device::CUstream stream) = 0;
  virtual void finish() = 0;
  // In finish()'s place where something failed after start(): no more messages will come.
  virtual void cancel() noexcept = 0;
};

class StreamTeam {
 public:
  // Takes `arena_bytes` of memory of `device`, in its primary context; all ranks must take as many.
  // Throws Error if CUDA refuses them, or if they are too few for one superblock's segment of this
  // topology. The driver and the kernels must outlive the team; the topology is copied.
  StreamTeam(const device::Driver& driver, const device::FoldKernels& kernels, int device,
             topology::Topology topology, int rank, std::unique_ptr<StreamLink> link,
             uint64_t arena_bytes);
  StreamTeam(const StreamTeam&) = delete;
  StreamTeam& operator=(const StreamTeam&) = delete;
  // Ends the link, then frees the arena, for which CUDA may wait until the device has done all its
  // work: a link whose messages can no longer arrive must end them first.
  ~StreamTeam() = default;

  // The smallest arena that a team of this topology can work with.
  [[nodiscard]] static uint64_t least_arena_bytes(const topology::Topology& topology);

  [[nodiscard]] std::mutex& mutex() noexcept { return mutex_; }
  [[nodiscard]] device::CUcontext context() const noexcept { return arena_.context(); }
  [[nodiscard]] int device() const noexcept { return device_; }
  [[nodiscard]] const topology::Topology& topology() const noexcept { return topology_; }
  [[nodiscard]] int rank() const noexcept { return rank_; }

  // For the executor, which holds mutex().
  [[nodiscard]] const device::Driver& driver() const noexcept { return driver_; }
  [[nodiscard]] const device::FoldKernels& kernels() const noexcept { return kernels_; }
  [[nodiscard]] DeviceArena& arena() noexcept { return arena_; }
  [[nodiscard]] StreamLink& link() noexcept { return *link_; }
  [[nodiscard]] PlanCache& plans() noexcept { return plans_; }

 private:
  const device::Driver& driver_;
  const device::FoldKernels& kernels_;
  const int device_;
  const topology::Topology topology_;
  const int rank_;
  DeviceArena arena_;
  std::unique_ptr<StreamLink> link_;  // behind the arena, so that it ends first
  PlanCache plans_;
  std::mutex mutex_;
};

}  // namespace slimccl::runtime
