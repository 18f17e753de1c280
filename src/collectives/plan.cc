#include "collectives/plan.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"

namespace slimccl::collectives {
namespace {

// All-reduce slices start on a multiple of this many elements, so that a slice's bytes are 64-byte
// units.
constexpr uint64_t kSliceElems = 32;

std::string text_of(const Slice& slice) {
  static constexpr std::string_view kRegions[] = {"in", "out", "scratch"};
  return concat(kRegions[static_cast<size_t>(slice.region)], "[", slice.offset, "+", slice.bytes,
                "]");
}

std::string text_of(const Operand& operand) {
  return concat(text_of(operand.slice), ":", quant::name(operand.codec), operand.scaled ? "*" : "");
}

std::string text_of(const Step& step) {
  switch (step.kind) {
    case Kind::kSend:
      return concat("send ", text_of(step.from.front()), " -> rank ", step.peer, " tag ", step.tag);
    case Kind::kRecv:
      return concat("recv ", text_of(step.to), " <- rank ", step.peer, " tag ", step.tag);
    case Kind::kCopy:
      return concat("copy ", text_of(step.from.front()), " -> ", text_of(step.to));
    case Kind::kFold:
      break;
  }
  std::string text = concat("fold ", step.elems, ":");
  for (const Operand& source : step.from) text += " " + text_of(source);
  return concat(text, " -> ", text_of(step.to), step.saturate ? " saturating" : "",
                step.finishes ? " final" : "");
}

}  // namespace

std::string_view name(Collective op) {
  static constexpr std::string_view kNames[] = {"all_gather", "reduce_scatter", "all_reduce",
                                                "broadcast", "reduce"};
  return kNames[static_cast<size_t>(op)];
}

Collective collective_from_name(std::string_view text) {
  const auto* found =
      std::ranges::find_if(kAllCollectives, [&](Collective op) { return name(op) == text; });
  check(found != std::end(kAllCollectives), ncclInvalidArgument, "\"", text,
        "\" is no collective; known are all_gather, reduce_scatter, all_reduce, broadcast and "
        "reduce");
  return *found;
}

uint64_t slice_stride(const Shape& shape, int ranks) {
  if (shape.whole || shape.op != Collective::kAllReduce) return shape.count;
  return round_up(ceil_div(shape.count, static_cast<uint64_t>(ranks)), kSliceElems);
}

uint64_t slice_elems(const Shape& shape, int ranks, int rank) {
  const uint64_t stride = slice_stride(shape, ranks);
  uint64_t length = stride;
  if (!shape.whole && shape.op == Collective::kAllReduce) {
    const uint64_t first = stride * static_cast<uint64_t>(rank);
    length = std::min(stride, shape.count - std::min(shape.count, first));
  }
  return std::min(shape.elems, length - std::min(length, shape.begin));
}

Shape normalized(const Shape& shape, int ranks) {
  Shape shifted = shape;
  shifted.begin = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    if (slice_elems(shape, ranks, rank) != slice_elems(shifted, ranks, rank)) return shape;
  }
  return shifted;
}

std::string to_text(const Plan& plan) {
  std::string text = concat("scratch ", plan.scratch_bytes, "\n");
  for (const Step& step : plan.steps) text += concat(step.level, " ", text_of(step), "\n");
  if (const auto& gather = plan.gather) {
    text += concat("level ", gather->level, " gathers in the node: ", text_of(gather->from), " -> ",
                   text_of(gather->to), "\n");
  }
  return text;
}

}  // namespace slimccl::collectives
