// One team's part of an enqueue(): its coalesced calls, batch by batch, segment by segment, level
// by level. A batch is as many of the calls as the arena's slot has room for.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "device/cuda/memory.h"
#include "quant/kernels.h"
#include "runtime/stream/stream_executor.h"

namespace slimccl::runtime {

// Messages of one or several links, between the first one's start() and finish().
class MessageGroup {
 public:
  MessageGroup() = default;
  MessageGroup(const MessageGroup&) = delete;
  MessageGroup& operator=(const MessageGroup&) = delete;
  ~MessageGroup();

  void open(StreamLink& link);  // before each of its messages
  void finish();                // nothing if there was no message

 private:
  StreamLink* opened_by_ = nullptr;
};

class TeamRun {
 public:
  // Calls of one team. Enqueues nothing yet.
  explicit TeamRun(std::span<const StreamCall> calls);

  [[nodiscard]] StreamTeam& team() const { return team_; }
  [[nodiscard]] device::CurrentContext in_context() const {
    return {team_.driver(), team_.arena().context()};
  }

  // The stream waits for what must be done first; at the end, others for it.
  void begin();
  void end();

  // Goes to a batch, and in that to a segment; false if there is none of that number.
  bool begin_batch(size_t batch);
  bool begin_segment(uint64_t segment);
  [[nodiscard]] int levels() const;  // of the segment: all its levels are lower

  void compute(int level);                        // folds and copies
  void exchange(int level, MessageGroup& group);  // sends and receives

 private:
  // A call of the present batch.
  struct Running {
    const StreamCall* call;
    const RowShape* row_shape;
    Cut cut;
    std::byte* memory;  // its part of the slot: the bounces, then the scratch
    std::shared_ptr<const collectives::Plan> plan;  // of the segment; null: the call has fewer
    uint64_t begin_bytes = 0;                       // of the segment
  };
  // A fold with memory in place of slices.
  struct Fold {
    std::vector<quant::Source> sources;
    quant::Sink sink;
    ncclDataType_t type;
    uint64_t elems;
    // By source; null: the call has no scale in device memory.
    std::unique_ptr<bool[]> device_scaled;
    const void* device_scale;
  };

  void begin_segment_of(Running& running, uint64_t segment);
  [[nodiscard]] std::byte* at(const Running& running, const collectives::Slice& slice) const;
  [[nodiscard]] Fold fold_of(const Running& running, const collectives::Step& step) const;
  void launch(std::span<const Fold> folds);
  void launch_bounced(const Running& running, Fold fold);
  void copy(std::byte* into, const std::byte* from, uint64_t bytes);
  // One call of a level's messages, if that is what they are.
  bool gather(const Running& running, int level, MessageGroup& group);

  const std::vector<StreamCall> calls_;
  std::vector<RowShape> row_shapes_;  // of the calls
  StreamTeam& team_;
  const device::CUstream stream_;  // the first call's
  size_t batch_calls_ = 0;
  DeviceArena::Slot slot_{};
  std::vector<Running> running_;
};

}  // namespace slimccl::runtime
