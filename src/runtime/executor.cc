#include "runtime/executor.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "runtime/wire_tag.h"

namespace slimccl::runtime {
namespace {

using collectives::Kind;
using collectives::Operand;
using collectives::Region;
using collectives::Shape;
using collectives::Slice;
using collectives::Step;
using transport::Progress;

constexpr size_t kCachedPlans = 32;

uint64_t longest_slice(const Shape& shape, int ranks) {
  return collectives::slice_stride(shape, ranks);
}

bool reads_output(const Step& step) {
  return std::ranges::any_of(
      step.from, [](const Operand& source) { return source.slice.region == Region::kOutput; });
}

uint64_t output_bytes(const Shape& shape, int ranks) {
  const bool gathers = shape.op == collectives::Collective::kAllGather;
  return shape.count * static_cast<uint64_t>(gathers ? ranks : 1) * quant::type_bytes(shape.type);
}

}  // namespace

CompiledPlan compile(collectives::Plan plan, const collectives::Alias& alias) {
  const collectives::Links links = link(plan, alias);
  CompiledPlan compiled;
  compiled.releases.resize(plan.steps.size());
  for (uint32_t i = 0; i < plan.steps.size(); ++i) {
    compiled.waits_for.push_back(static_cast<uint32_t>(links.after[i].size()));
    for (const uint32_t before : links.after[i]) compiled.releases[before].push_back(i);
  }
  compiled.rereads_output = std::ranges::any_of(plan.steps, reads_output);
  compiled.plan = std::move(plan);
  return compiled;
}

uint64_t segment_elems(const collectives::Row& row, const Shape& shape,
                       const topology::Topology& topology, const ExecutorLimits& limits) {
  const uint64_t longest = std::max<uint64_t>(1, longest_slice(shape, topology.ranks()));
  const uint64_t elem_bytes = std::max<uint64_t>(sizeof(float), quant::type_bytes(shape.type));
  const uint64_t per_elem = limits.window * row.scratch_messages(shape, topology) * elem_bytes;
  const uint64_t fitting = limits.arena_bytes / per_elem / quant::kSuperblock * quant::kSuperblock;
  const uint64_t elems =
      std::clamp(limits.segment_elems, quant::kSuperblock, std::max(quant::kSuperblock, fitting));
  // The tag has room for so many segments: beyond that (2^36 elements of a slice) segments grow.
  return std::max(elems, round_up(ceil_div(longest, kMaxSegments), quant::kSuperblock));
}

ProgressExecutor::ProgressExecutor(const topology::Topology& topology, int rank, Router& router,
                                   const ExecutorLimits& limits)
    : topology_(topology),
      rank_(rank),
      router_(router),
      limits_(limits),
      folds_(quant::best_kernels()),
      window_(limits.window) {}

void ProgressExecutor::start(const Operation& operation) {
  ensure(idle(), "an operation was started while another was under way");
  operation_ = operation;
  if (operation.device_scalar != nullptr)
    operation_->scale = quant::read_scalar(operation.device_scalar, operation.shape.type);
  call_tag_ = call_tag(operation.shape, ++number_);
  elems_per_segment_ = segment_elems(*operation.choice.row, operation.shape, topology_, limits_);
  segments_total_ = ceil_div(longest_slice(operation.shape, topology_.ranks()), elems_per_segment_);
  segments_begun_ = 0;
  large_output_ = output_bytes(operation.shape, topology_.ranks()) >= limits_.streamed_output_bytes;
  fill_window();
}

std::shared_ptr<const CompiledPlan> ProgressExecutor::plan_for(const Shape& shape) {
  const Operation& operation = *operation_;
  const CachedPlan key{collectives::normalized(shape, topology_.ranks()),
                       operation.choice.row->name,
                       operation.choice.codecs,
                       operation.in_place,
                       operation.alias,
                       nullptr};
  const auto same = [&](const CachedPlan& cached) {
    return cached.shape == key.shape && cached.row == key.row && cached.codecs == key.codecs &&
           cached.in_place == key.in_place && cached.alias == key.alias;
  };
  const auto found = std::ranges::find_if(cache_, same);
  if (found != cache_.end()) {
    std::rotate(found, found + 1, cache_.end());
    return cache_.back().plan;
  }
  if (cache_.size() == kCachedPlans) cache_.erase(cache_.begin());
  cache_.push_back(key);
  auto plan = operation.choice.row->plan(key.shape, topology_, key.codecs, rank_, key.in_place);
  cache_.back().plan = std::make_shared<CompiledPlan>(compile(std::move(plan), key.alias));
  return cache_.back().plan;
}

void ProgressExecutor::fill_window() {
  for (Segment& segment : window_) {
    // A segment may have nothing to do on this rank (an all-reduce's short last slice): take the
    // next at once.
    while (segment.left == 0 && segments_begun_ < segments_total_) begin_segment(segment);
  }
  const bool done =
      std::ranges::all_of(window_, [](const Segment& segment) { return segment.left == 0; });
  if (done && segments_begun_ == segments_total_) operation_.reset();
}

void ProgressExecutor::begin_segment(Segment& segment) {
  Shape shape = operation_->shape;
  segment.index = segments_begun_++;
  shape.begin = segment.index * elems_per_segment_;
  shape.elems = elems_per_segment_;
  segment.begin_bytes = shape.begin * quant::type_bytes(shape.type);
  segment.plan = plan_for(shape);
  segment.waits_for = segment.plan->waits_for;
  segment.left = segment.plan->plan.steps.size();
  segment.messages.clear();
  segment.work.clear();
  const uint64_t scratch = round_up(segment.plan->plan.scratch_bytes, quant::kMessageAlign);
  if (segment.scratch_bytes < scratch) {
    segment.scratch_memory.reset();
    segment.scratch_memory = std::make_unique_for_overwrite<Line[]>(scratch / sizeof(Line));
    segment.scratch_bytes = scratch;
  }
  segment.scratch = reinterpret_cast<std::byte*>(segment.scratch_memory.get());
  for (uint32_t step = 0; step < segment.waits_for.size(); ++step) {
    if (segment.waits_for[step] == 0) release(segment, step);
  }
}

std::byte* ProgressExecutor::at(const Segment& segment, const Slice& slice) const {
  switch (slice.region) {
    case Region::kInput:  // never written through: steps that write name Output or scratch
      return const_cast<std::byte*>(operation_->input) + segment.begin_bytes + slice.offset;
    case Region::kOutput:
      return operation_->output + segment.begin_bytes + slice.offset;
    case Region::kScratch:
      break;
  }
  return segment.scratch + slice.offset;
}

void ProgressExecutor::release(Segment& segment, uint32_t index) {
  const Kind kind = segment.plan->plan.steps[index].kind;
  if (kind == Kind::kSend || kind == Kind::kRecv) return post(segment, index);
  segment.work.push_back(index);
}

void ProgressExecutor::post(Segment& segment, uint32_t index) {
  const Step& step = segment.plan->plan.steps[index];
  const uint64_t tag = message_tag(call_tag_, segment.index, step.tag);
  if (step.kind == Kind::kRecv) {
    const Slice& slice = step.to.slice;
    segment.messages.push_back(
        {index, router_.recv(step.peer, tag, {at(segment, slice), slice.bytes})});
    return;
  }
  const Slice& slice = step.from.front().slice;
  const bool crosses = topology_.node_of(step.peer) != topology_.node_of(rank_);
  (crosses ? sent_.between_nodes : sent_.in_node) += slice.bytes;
  segment.messages.push_back(
      {index, router_.send(step.peer, tag, {at(segment, slice), slice.bytes})});
}

void ProgressExecutor::finish(Segment& segment, uint32_t index) {
  --segment.left;
  for (const uint32_t next : segment.plan->releases[index]) {
    if (--segment.waits_for[next] == 0) release(segment, next);
  }
}

bool ProgressExecutor::poll_messages(Segment& segment) {
  bool moved = false;
  // finish() may post further messages: they are appended and looked at in the same pass.
  for (size_t i = 0; i < segment.messages.size() && !failure_;) {
    const Message message = segment.messages[i];
    const Progress state = router_.poll(message.handle);
    if (state == Progress::kPending) {
      ++i;
      continue;
    }
    moved = true;
    segment.messages[i] = segment.messages.back();
    segment.messages.pop_back();
    if (state == Progress::kDone) {
      finish(segment, message.step);
    } else {
      failure_ = router_.failure_of(message.handle, segment.plan->plan.steps[message.step].peer);
    }
  }
  return moved;
}

void ProgressExecutor::run(Segment& segment, const Step& step) {
  if (step.kind == Kind::kCopy) {
    std::memmove(at(segment, step.to.slice), at(segment, step.from.front().slice),
                 step.to.slice.bytes);
    return;
  }
  const bool streaming =
      step.to.slice.region == Region::kOutput && large_output_ && !segment.plan->rereads_output;
  folds_.run(
      step, operation_->shape, topology_.ranks(), operation_->scale,
      [&](const Slice& slice) { return at(segment, slice); }, streaming);
}

bool ProgressExecutor::run_one_step() {
  Segment* oldest = nullptr;
  for (Segment& segment : window_) {
    if (!segment.work.empty() && (oldest == nullptr || segment.index < oldest->index))
      oldest = &segment;
  }
  if (oldest == nullptr) return false;
  // Lowest step first: partial sums for the wire come before what only this rank needs.
  const auto lowest = std::ranges::min_element(oldest->work);
  const uint32_t step = *lowest;
  oldest->work.erase(lowest);
  run(*oldest, oldest->plan->plan.steps[step]);
  finish(*oldest, step);
  return true;
}

bool ProgressExecutor::progress() {
  if (idle() || failure_) return false;
  bool moved = false;
  for (Segment& segment : window_) moved |= segment.left > 0 && poll_messages(segment);
  if (!failure_) moved |= run_one_step();
  if (!failure_) fill_window();
  return moved;
}

std::string ProgressExecutor::waiting_for() const {
  std::string text;
  for (const Segment& segment : window_) {
    for (const Message& message : segment.messages) {
      const Step& step = segment.plan->plan.steps[message.step];
      const bool send = step.kind == Kind::kSend;
      if (!text.empty()) text += ", ";
      if (text.size() > 400) return text + "...";
      text +=
          concat(send ? "to send " : "to receive ",
                 (send ? step.from.front() : step.to).slice.bytes, " bytes ", send ? "to" : "from",
                 " rank ", step.peer, " (segment ", segment.index, " of ", segments_total_, ")");
    }
  }
  return text.empty() ? "nothing" : text;
}

void ProgressExecutor::drop() noexcept {
  for (Segment& segment : window_) {
    segment.left = 0;
    segment.messages.clear();
    segment.work.clear();
  }
  operation_.reset();
}

}  // namespace slimccl::runtime
