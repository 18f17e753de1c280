// A collective on memory that only CUDA reaches, cut into pieces that fit pinned memory. A piece is
// an ordinary call: the same range of elements of every rank's slice. How a call is cut is the same
// on all ranks: a function of its shape, its row, the number of ranks and the agreed bytes. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "collectives/catalog.h"

namespace slimccl::runtime {

// How many elements of each slice a piece has (the last may have fewer), and how many pieces.
struct Cut {
  uint64_t elems, pieces;
};
// slot_bytes: what one piece's buffers must fit. Throws Error, on all ranks alike, if they cannot.
[[nodiscard]] Cut cut_to_fit(const collectives::Shape& shape, bool lossy, int ranks,
                             uint64_t slot_bytes);

// Bytes that lie in the call's buffer and in the piece's, each from its begin.
struct StagedRange {
  uint64_t in_call, in_piece, bytes;

  bool operator==(const StagedRange&) const = default;
};

struct Piece {
  collectives::Shape shape;
  // From the slot's first byte to each of the piece's buffers. In the in-place forms they overlap
  // as the call's do.
  uint64_t input_at, output_at;
  bool sends, receives;  // whether this rank has an input, an output
  // What this rank puts into the piece's input, and takes from its output.
  std::vector<StagedRange> input, output;
};

// Piece `index` of the call as `rank` sees it. in_place: the call has NCCL's in-place form.
[[nodiscard]] Piece piece_of(const collectives::Shape& shape, const Cut& cut, uint64_t index,
                             int ranks, int rank, bool in_place);

// At a slot's begin, ahead of the buffers, there is room for a scalar.
inline constexpr uint64_t kSlotHeader = 64;

}  // namespace slimccl::runtime
