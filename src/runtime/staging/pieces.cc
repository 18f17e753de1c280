#include "runtime/staging/pieces.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"

namespace slimccl::runtime {
namespace {

using collectives::Collective;
using collectives::Shape;

constexpr uint64_t kAlign = 64;
// An all-reduce's slices begin at multiples of this many elements: pieces of them must, too.
constexpr uint64_t kLeastElems = 32;

bool by_slices(const Shape& shape) { return shape.op == Collective::kAllReduce && !shape.whole; }

// How many slices a buffer has.
uint64_t slices_in(const Shape& shape, int ranks) {
  const bool all = shape.op == Collective::kReduceScatter || by_slices(shape);
  return all ? static_cast<uint64_t>(ranks) : 1;
}
uint64_t slices_out(const Shape& shape, int ranks) {
  const bool all = shape.op == Collective::kAllGather || by_slices(shape);
  return all ? static_cast<uint64_t>(ranks) : 1;
}

bool sends(const Shape& shape, int rank) {
  return shape.op != Collective::kBroadcast || rank == shape.root;
}
bool receives(const Shape& shape, int rank) {
  return shape.op != Collective::kReduce || rank == shape.root;
}

// `part`: the call's shape, cut to the piece's range. `elems`: of a full slice in the piece.
std::vector<StagedRange> ranges(const Shape& part, uint64_t elems, uint64_t slices, int ranks) {
  const uint64_t bytes = quant::type_bytes(part.type);
  const uint64_t stride = slice_stride(part, ranks);
  std::vector<StagedRange> all;
  for (uint64_t slice = 0; slice < slices; ++slice) {
    const uint64_t here = slice_elems(part, ranks, static_cast<int>(slice));
    if (here == 0) continue;
    all.push_back({(slice * stride + part.begin) * bytes, slice * elems * bytes, here * bytes});
  }
  return all;
}

}  // namespace

Cut cut_to_fit(const Shape& shape, bool lossy, int ranks, uint64_t slot_bytes) {
  const uint64_t longest = slice_stride(shape, ranks);
  const uint64_t per_elem =
      (slices_in(shape, ranks) + slices_out(shape, ranks)) * quant::type_bytes(shape.type);
  const uint64_t room = slot_bytes - std::min(slot_bytes, kSlotHeader + kAlign);
  const uint64_t fitting = room / per_elem;
  if (longest <= fitting) return {longest, 1};
  // Whole superblocks: what is encoded, and so rounded, together in the call is so in the pieces.
  const uint64_t unit =
      lossy || fitting >= quant::kSuperblock ? quant::kSuperblock : uint64_t{kLeastElems};
  check(fitting >= unit, ncclInvalidUsage, "SLIMCCL_STAGING_MB is too small for ", name(shape.op),
        " on ", ranks, " ranks: a piece of ", unit, " elements of each rank needs ",
        unit * per_elem, " bytes and has ", room);
  const uint64_t elems = fitting / unit * unit;
  return {elems, ceil_div(longest, elems)};
}

Piece piece_of(const Shape& shape, const Cut& cut, uint64_t index, int ranks, int rank,
               bool in_place) {
  Shape part = shape;
  part.begin = index * cut.elems;
  const uint64_t elems = std::min(cut.elems, slice_stride(shape, ranks) - part.begin);
  part.elems = elems;
  const uint64_t in = slices_in(shape, ranks), out = slices_out(shape, ranks);
  const uint64_t slice_bytes = elems * quant::type_bytes(shape.type);
  Piece piece{shape, kSlotHeader, kSlotHeader, sends(shape, rank), receives(shape, rank), {}, {}};
  piece.shape.count = elems;
  if (by_slices(shape)) {
    // The call's slices are full but for the last ones, which lack fewer than 32 elements a rank
    // together: so a call of so many elements has slices of `elems`, and short ones where these
    // are.
    piece.shape.count = 0;
    for (int slice = 0; slice < ranks; ++slice)
      piece.shape.count += slice_elems(part, ranks, slice);
  }
  if (!in_place) piece.output_at += round_up(in * slice_bytes, kAlign);
  const uint64_t own_slot = static_cast<uint64_t>(rank) * slice_bytes;
  if (in_place && shape.op == Collective::kAllGather) piece.input_at += own_slot;
  if (in_place && shape.op == Collective::kReduceScatter) piece.output_at += own_slot;
  if (piece.sends) piece.input = ranges(part, elems, in, ranks);
  if (piece.receives) piece.output = ranges(part, elems, out, ranks);
  // An in-place gather leaves this rank's slot as it is, and there is nothing to bring back of it.
  if (in_place && shape.op == Collective::kAllGather)
    std::erase_if(piece.output, [&](const auto& each) { return each.in_piece == own_slot; });
  return piece;
}

}  // namespace slimccl::runtime
