#include "runtime/stream/team_run.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "quant/cuda/pack.h"

namespace slimccl::runtime {
namespace {

using collectives::Kind;
using collectives::Operand;
using collectives::Region;
using collectives::Shape;
using collectives::Slice;
using collectives::Step;
using device::address_of;

void check_call(const StreamCall& call) {
  const Shape& shape = call.shape;
  ensure(shape.begin == 0, "a stream's call that begins at element ", shape.begin);
  ensure(quant::is_float(shape.type) && shape.reduction == quant::Reduction::kSum && !shape.divides,
         "a stream's call of ", quant::type_name(shape.type), " elements, reduced by ",
         quant::name(shape.reduction));
}

bool element_aligned(const void* data, quant::Codec codec, ncclDataType_t type) {
  return codec != quant::Codec::kTensor || address_of(data) % quant::type_bytes(type) == 0;
}

}  // namespace

MessageGroup::~MessageGroup() {
  if (opened_by_ != nullptr) opened_by_->cancel();
}

void MessageGroup::open(StreamLink& link) {
  if (opened_by_ != nullptr) return;
  link.start();
  opened_by_ = &link;
}

void MessageGroup::finish() {
  if (opened_by_ != nullptr) std::exchange(opened_by_, nullptr)->finish();
}

TeamRun::TeamRun(std::span<const StreamCall> calls)
    : calls_(calls.begin(), calls.end()),
      team_(*calls_.front().team),
      stream_(calls_.front().stream) {
  for (const StreamCall& call : calls_) {
    check_call(call);
    row_shapes_.push_back({call.row, cut_by(*call.row, call.shape)});
  }
  batch_calls_ = calls_at_once(row_shapes_, team_.topology(), team_.arena().slot_bytes());
}

void TeamRun::begin() {
  const auto current = in_context();
  for (const StreamCall& call : calls_) {
    if (call.stream != stream_) team_.arena().order(call.stream, stream_);
  }
  slot_ = team_.arena().take_slot(stream_);
}

void TeamRun::end() {
  const auto current = in_context();
  team_.driver().cuEventRecord(slot_.passed, stream_);
  for (const StreamCall& call : calls_) {
    if (call.stream != stream_) team_.driver().cuStreamWaitEvent(call.stream, slot_.passed, 0);
  }
}

bool TeamRun::begin_batch(size_t batch) {
  running_.clear();
  const size_t first = batch * batch_calls_;
  if (first >= calls_.size()) return false;
  const size_t count = std::min(batch_calls_, calls_.size() - first);
  const auto row_shapes = std::span(row_shapes_).subspan(first, count);
  const std::vector<Cut> cuts = cut(row_shapes, team_.topology(), team_.arena().slot_bytes());
  for (size_t i = 0; i < count; ++i) {
    running_.push_back({.call = &calls_[first + i],
                        .row_shape = &row_shapes[i],
                        .cut = cuts[i],
                        .memory = slot_.memory + cuts[i].offset,
                        .plan = nullptr});
  }
  return true;
}

bool TeamRun::begin_segment(uint64_t segment) {
  bool any = false;
  for (Running& running : running_) {
    running.plan.reset();
    if (segment >= running.cut.segments) continue;
    begin_segment_of(running, segment);
    any = true;
  }
  return any;
}

void TeamRun::begin_segment_of(Running& running, uint64_t segment) {
  RowShape part = *running.row_shape;
  part.shape.begin = segment * running.cut.elems;
  part.shape.elems = running.cut.elems;
  running.begin_bytes = part.shape.begin * quant::type_bytes(part.shape.type);
  running.plan = team_.plans().plan(part, team_.topology(), running.call->codecs, team_.rank(),
                                    running.call->in_place);
  const uint64_t bytes = running.plan->scratch_bytes + kBounces * running.cut.bounce_bytes;
  ensure(bytes <= running.cut.bytes, "the plan of ", name(part.shape.op), " by ", part.row->name,
         " takes ", bytes, " bytes of the arena; there are ", running.cut.bytes);
}

int TeamRun::levels() const {
  int levels = 0;
  for (const Running& running : running_) {
    if (running.plan == nullptr || running.plan->steps.empty()) continue;
    levels = std::max(levels, running.plan->steps.back().level + 1);
  }
  return levels;
}

std::byte* TeamRun::at(const Running& running, const Slice& slice) const {
  switch (slice.region) {
    case Region::kInput:  // never written through: steps that write name Output or scratch
      return const_cast<std::byte*>(running.call->input) + running.begin_bytes + slice.offset;
    case Region::kOutput:
      return running.call->output + running.begin_bytes + slice.offset;
    case Region::kScratch:
      break;
  }
  return running.memory + kBounces * running.cut.bounce_bytes + slice.offset;
}

TeamRun::Fold TeamRun::fold_of(const Running& running, const Step& step) const {
  Fold fold{.sources = {},
            .sink = {at(running, step.to.slice), step.to.codec, step.saturate},
            .type = running.call->shape.type,
            .elems = step.elems,
            .device_scaled = nullptr,
            .device_scale = running.call->device_scale};
  for (const Operand& source : step.from) {
    fold.sources.push_back(
        {at(running, source.slice), source.codec, source.scaled ? running.call->scale : 1.0f});
  }
  if (fold.device_scale != nullptr) {
    fold.device_scaled = std::make_unique<bool[]>(step.from.size());
    std::ranges::transform(step.from, fold.device_scaled.get(), &Operand::scaled);
  }
  return fold;
}

void TeamRun::compute(int level) {
  const auto current = in_context();
  std::vector<Fold> folds;
  for (const Running& running : running_) {
    if (running.plan == nullptr) continue;
    for (const Step& step : steps_of(*running.plan, level)) {
      if (step.kind == Kind::kCopy) {
        copy(at(running, step.to.slice), at(running, step.from.front().slice), step.to.slice.bytes);
      }
      if (step.kind != Kind::kFold) continue;
      Fold fold = fold_of(running, step);
      const auto reachable = [&](const auto& end) {
        return element_aligned(end.data, end.codec, fold.type);
      };
      if (reachable(fold.sink) && std::ranges::all_of(fold.sources, reachable)) {
        folds.push_back(std::move(fold));
      } else {
        launch_bounced(running, std::move(fold));
      }
    }
  }
  launch(folds);
}

void TeamRun::launch(std::span<const Fold> folds) {
  std::vector<quant::Fold> operands;
  operands.reserve(folds.size());
  for (const Fold& fold : folds) {
    operands.push_back({.sources = fold.sources,
                        .sink = fold.sink,
                        .type = fold.type,
                        .elems = fold.elems,
                        .device_scale = fold.device_scale,
                        .device_scaled = {}});
    if (fold.device_scale != nullptr)
      operands.back().device_scaled = {fold.device_scaled.get(), fold.sources.size()};
  }
  for (const quant::Launch& launch : quant::packed(operands)) {
    team_.kernels().launch(stream_, launch.to, launch.batch);
  }
}

// Kernels reach elements at multiples of their size only; NCCL's callers may use any address.
void TeamRun::launch_bounced(const Running& running, Fold fold) {
  const uint64_t bytes = fold.elems * quant::type_bytes(fold.type);
  uint64_t used = 0;
  const auto bounce = [&] {
    ensure(used < kBounces, "a fold with more than ", kBounces, " operands that are misaligned");
    return running.memory + used++ * running.cut.bounce_bytes;
  };
  for (quant::Source& source : fold.sources) {
    if (element_aligned(source.data, source.codec, fold.type)) continue;
    std::byte* aligned = bounce();
    copy(aligned, source.data, bytes);
    source.data = aligned;
  }
  std::byte* const result = fold.sink.data;
  const bool moved = !element_aligned(result, fold.sink.codec, fold.type);
  if (moved) fold.sink.data = bounce();
  launch({&fold, 1});
  if (moved) copy(result, fold.sink.data, bytes);
}

void TeamRun::copy(std::byte* into, const std::byte* from, uint64_t bytes) {
  if (into == from || bytes == 0) return;
  team_.driver().cuMemcpyDtoDAsync(address_of(into), address_of(from), bytes, stream_);
}

bool TeamRun::gather(const Running& running, int level, MessageGroup& group) {
  const auto& gather = running.plan->gather;
  if (!gather || gather->level != level) return false;
  group.open(team_.link());
  team_.link().node_gather(at(running, gather->from), at(running, gather->to), gather->from.bytes,
                           stream_);
  return true;
}

void TeamRun::exchange(int level, MessageGroup& group) {
  const auto current = in_context();
  for (const Running& running : running_) {
    if (running.plan == nullptr || gather(running, level, group)) continue;
    for (const Step& step : steps_of(*running.plan, level)) {
      if (step.kind != Kind::kSend && step.kind != Kind::kRecv) continue;
      group.open(team_.link());
      const Slice& slice = (step.kind == Kind::kSend ? step.from.front() : step.to).slice;
      if (step.kind == Kind::kSend) {
        team_.link().send(at(running, slice), slice.bytes, step.peer, stream_);
      } else {
        team_.link().recv(at(running, slice), slice.bytes, step.peer, stream_);
      }
    }
  }
}

}  // namespace slimccl::runtime
