// A collective as a value: what one rank sends, receives and computes, on slices of its buffers,
// never on pointers.
//
// A planner (catalog.h) writes steps in program order, as if each finished before the next began;
// link() derives from the bytes they touch which really have to wait for which. One plan covers one
// *segment*: the same range of elements of every rank's slice. Long calls run many segments of few
// distinct plans.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quant/codec.h"
#include "quant/reduce.h"

namespace slimccl::collectives {

using quant::Codec;
using quant::Reduction;

enum class Collective : uint8_t { kAllGather, kReduceScatter, kAllReduce, kBroadcast, kReduce };
inline constexpr Collective kAllCollectives[] = {Collective::kAllGather, Collective::kReduceScatter,
                                                 Collective::kAllReduce, Collective::kBroadcast,
                                                 Collective::kReduce};
[[nodiscard]] constexpr bool is_reduction(Collective op) {
  return op == Collective::kReduceScatter || op == Collective::kAllReduce ||
         op == Collective::kReduce;
}
[[nodiscard]] constexpr bool has_root(Collective op) {
  return op == Collective::kBroadcast || op == Collective::kReduce;
}
[[nodiscard]] std::string_view name(Collective op);  // "all_gather", ...
[[nodiscard]] Collective collective_from_name(std::string_view name);

// Whether sources are multiplied before the first sum: by the same number everywhere (avg), or by
// each rank's own.
enum class Scaling : uint8_t { kNone, kUniform, kPerRank };

// What is asked, in the words of the C call. Equal on all ranks.
struct Shape {
  Collective op;
  ncclDataType_t type;
  uint64_t count;  // elements: of one rank's slice (all-gather, reduce-scatter) or of the whole
                   // (all-reduce, broadcast, reduce)
  Scaling scaling = Scaling::kNone;
  Reduction reduction = Reduction::kSum;
  bool divides = false;  // the finished sum is divided by the number of ranks: integers' average
  int root = 0;          // broadcast, reduce
  // One slice of `count` elements for all ranks, where the row does not cut the call by ranks.
  bool whole = false;
  // The segment: elements [begin, begin + elems) of every slice. Input and Output offsets are
  // relative to `begin`.
  uint64_t begin = 0;
  uint64_t elems = UINT64_MAX;  // cut to what the slices have

  bool operator==(const Shape&) const = default;
};

// Elements from one slice's start to the next one's, and how many of slice `rank` lie in the
// segment. A whole call has one slice, everybody's.
[[nodiscard]] uint64_t slice_stride(const Shape& shape, int ranks);
[[nodiscard]] uint64_t slice_elems(const Shape& shape, int ranks, int rank);
// In all full segments the plans are equal: only `begin` differs, and it is added when buffers are
// touched. The shape whose plan serves this segment.
[[nodiscard]] Shape normalized(const Shape& shape, int ranks);

// The codec per hop. `reduce`: partial sums between nodes; `gather`: what is spread to all (all
// hops of it).
struct Codecs {
  Codec reduce = Codec::kTensor;
  Codec gather = Codec::kTensor;

  bool operator==(const Codecs&) const = default;
};

enum class Region : uint8_t { kInput, kOutput, kScratch };

struct Slice {
  Region region;
  uint64_t offset;  // bytes; Input and Output: from the segment's first element of slice 0
  uint64_t bytes;

  bool operator==(const Slice&) const = default;
};

struct Operand {
  Slice slice;
  Codec codec;
  bool scaled = false;  // multiply by the call's scale on reading (sources only)

  bool operator==(const Operand&) const = default;
};

enum class Kind : uint8_t { kSend, kRecv, kCopy, kFold };

struct Step {
  Kind kind;
  int level;  // steps of one level are independent of each other; a send and its receive share it
  int peer = -1;     // sends and receives
  uint32_t tag = 0;  // unique per (sender, receiver) within a plan
  uint64_t elems = 0;
  std::vector<Operand> from{};  // fold: sources in fold order; send, copy: one
  Operand to{};                 // not for sends
  bool saturate = false;        // fold: see quant::Sink
  bool finishes = false;        // fold: makes a result, so that a sum which divides does it here
};

// The messages of one level, where they are an all-gather in every node: each rank sends `from`,
// its part of `to`, to the others of its node, and theirs come into their parts, by local index.
// Whoever has a communicator of the node may make one call of them.
struct NodeGather {
  int level;
  Slice from, to;
};

struct Plan {
  std::vector<Step> steps;  // levels ascending
  uint64_t scratch_bytes = 0;
  std::optional<NodeGather> gather{};  // says nothing that the steps do not
};

// One line a step, stable across machines: golden files and `explain` show it.
[[nodiscard]] std::string to_text(const Plan& plan);

}  // namespace slimccl::collectives
