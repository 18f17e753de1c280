// Compressed calls: what a communicator needs for them, and their way to its stream.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "collectives/plan.h"
#include "core/kernels.h"
#include "core/policy.h"
#include "core/real_link.h"
#include "core/sampler.h"

namespace slimccl::overlay {

struct Entry;
struct Outcome;

// What one communicator compresses with. Lives as long as a call that uses it, or its entry.
struct Compressor {
  Compressor(const Gpu& gpu, int device, const topology::Topology& topology, int rank,
             std::unique_ptr<RealLink> messages, uint64_t arena_bytes);
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;
  ~Compressor() { leave_node(RealLink::NodeEnd::kAborted); }

  RealLink* const link;  // the team's
  runtime::StreamTeam team;
  Sampler sampler;

  // Whether the stream is being captured, or must not be asked because another one is.
  [[nodiscard]] bool captures(cudaStream_t stream) const;
  // As the link's, on any thread, whatever is current there. All ranks join at once.
  void join_node();
  void leave_node(RealLink::NodeEnd how) noexcept;
};

// Takes GPU memory for the communicator's arena. Throws Error if there is none, or no CUDA.
[[nodiscard]] std::shared_ptr<Compressor> make_compressor(const slimccl_nccl& nccl, ncclComm_t comm,
                                                          int device,
                                                          const topology::Topology& topology,
                                                          int rank, uint64_t arena_bytes);

// Where a call's data lies.
struct Buffers {
  const void* from = nullptr;
  void* into = nullptr;
  cudaStream_t stream = nullptr;
};

// A compressed call until it is enqueued.
struct Compressed {
  std::shared_ptr<Compressor> compressor;
  Entry* entry;
  collectives::Shape shape;
  const collectives::Row* row;
  collectives::Codecs codecs;
  Buffers buffers;
  bool in_place;
  float scale;
  const void* device_scale;
};

// Enqueues the call; inside a group, at the group's end. Returns what the caller gets.
[[nodiscard]] ncclResult_t compress(Entry& entry, const Call& call, const Outcome& outcome,
                                    const Buffers& buffers) noexcept;
// The calls of a group, in their order. A failure in the middle of a call breaks its communicators:
// every later call of theirs that carries data returns it.
[[nodiscard]] ncclResult_t enqueue_all(const std::vector<Compressed>& calls) noexcept;

}  // namespace slimccl::overlay
