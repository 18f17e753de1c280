// ProgressExecutor: runs one collective at a time over a Router, many pipeline segments at once.
//
// A call is cut into segments (the same range of every slice); `window` of them are under way, each
// with its own part of the scratch. In a segment, steps run as soon as their predecessors are done:
// receives are posted early, folds are done by the calling thread between looks at the wire. Owned
// by the engine's thread; nothing here blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/link.h"
#include "collectives/run_fold.h"
#include "collectives/select.h"
#include "quant/kernels.h"
#include "runtime/router.h"

namespace slimccl::runtime {

// One call, ready to run. The buffers stay valid until the executor is done with it.
struct Operation {
  collectives::Shape shape;  // the whole call: begin 0, cut as the choice's row does
  collectives::Choice choice;
  const std::byte* input;
  std::byte* output;
  collectives::Alias alias;
  bool in_place;
  quant::Scalar scale{};
  const void* device_scalar = nullptr;  // where to read the scale when the operation starts
};

// A linked plan in the form that running needs: who is released by whom.
struct CompiledPlan {
  collectives::Plan plan;
  std::vector<std::vector<uint32_t>> releases;
  std::vector<uint32_t> waits_for;  // how many steps
  bool rereads_output;              // some step takes what another left in Output
};

[[nodiscard]] CompiledPlan compile(collectives::Plan plan, const collectives::Alias& alias);

struct ExecutorLimits {
  uint64_t segment_elems;  // a multiple of the superblock
  uint64_t window;
  uint64_t arena_bytes;  // scratch of all segments together; segments shrink to fit
  // Outputs from here on are stored past the caches: by their end, their start would be gone
  // anyway.
  uint64_t streamed_output_bytes = uint64_t{8} << 20;
};

// Elements per segment: the same on all ranks. Pure.
[[nodiscard]] uint64_t segment_elems(const collectives::Row& row, const collectives::Shape& shape,
                                     const topology::Topology& topology,
                                     const ExecutorLimits& limits);

class ProgressExecutor {
 public:
  ProgressExecutor(const topology::Topology& topology, int rank, Router& router,
                   const ExecutorLimits& limits);

  // The executor must be idle. Throws only for internal errors.
  void start(const Operation& operation);
  [[nodiscard]] bool idle() const noexcept { return !operation_; }

  // Moves the operation on; true if anything happened. A failed message ends it: failure() says
  // whose.
  bool progress();
  [[nodiscard]] const std::optional<transport::PeerFailure>& failure() const noexcept {
    return failure_;
  }
  // What the operation waits for now, for the watchdog's message.
  [[nodiscard]] std::string waiting_for() const;
  // Forgets the operation. The router must have been aborted first: nobody touches the buffers any
  // more.
  void drop() noexcept;

  // Bytes handed to the router so far, by tier.
  [[nodiscard]] const collectives::WireBytes& sent() const noexcept { return sent_; }

 private:
  struct Message {
    uint32_t step;
    Router::Handle handle;
  };
  // Scratch is made of these, so that messages start aligned.
  struct alignas(quant::kMessageAlign) Line {
    std::byte bytes[quant::kMessageAlign];
  };
  struct Segment {
    uint64_t index = 0;
    uint64_t begin_bytes = 0;
    std::shared_ptr<const CompiledPlan> plan;
    std::vector<uint32_t> waits_for;
    std::vector<Message> messages;
    std::vector<uint32_t> work;  // folds and copies that may run
    size_t left = 0;
    std::unique_ptr<Line[]> scratch_memory;
    uint64_t scratch_bytes = 0;
    std::byte* scratch = nullptr;  // its first byte
  };

  void fill_window();
  void begin_segment(Segment& segment);
  std::shared_ptr<const CompiledPlan> plan_for(const collectives::Shape& shape);
  void release(Segment& segment, uint32_t step);
  void finish(Segment& segment, uint32_t step);
  void post(Segment& segment, uint32_t step);
  bool poll_messages(Segment& segment);
  bool run_one_step();
  void run(Segment& segment, const collectives::Step& step);
  std::byte* at(const Segment& segment, const collectives::Slice& slice) const;

  const topology::Topology& topology_;
  int rank_;
  Router& router_;
  ExecutorLimits limits_;
  collectives::FoldRunner folds_;

  std::optional<Operation> operation_;
  uint64_t number_ = 0;    // of operations so far
  uint64_t call_tag_ = 0;  // of the present one
  uint64_t segments_total_ = 0, segments_begun_ = 0;
  uint64_t elems_per_segment_ = 0;
  bool large_output_ = false;  // it would not stay in the caches
  std::vector<Segment> window_;
  std::optional<transport::PeerFailure> failure_;
  collectives::WireBytes sent_;

  struct CachedPlan {
    collectives::Shape shape;
    std::string_view row;
    collectives::Codecs codecs;
    bool in_place;
    collectives::Alias alias;
    std::shared_ptr<const CompiledPlan> plan;
  };
  std::vector<CachedPlan> cache_;  // most recently used last
};

}  // namespace slimccl::runtime
