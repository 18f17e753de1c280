// How calls are cut: the pieces of all ranks cover every element once, each in the slice that the
// call has it in, and fit their slot.
#include "runtime/staging/pieces.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/error.h"

namespace slimccl::runtime {
namespace {

using collectives::Collective;
using collectives::Shape;

struct Ends {
  uint64_t input = 0, output = 0;  // of the piece's buffers, from the slot's begin
};

Ends check_ranges(const Shape& shape, const Piece& piece, int ranks,
                  std::map<uint64_t, int>& covered_in, std::map<uint64_t, int>& covered_out) {
  const uint64_t type = quant::type_bytes(shape.type);
  const uint64_t stride = slice_stride(shape, ranks),
                 short_stride = slice_stride(piece.shape, ranks);
  Ends ends;
  const auto look = [&](const StagedRange& range, std::map<uint64_t, int>& covered, uint64_t at,
                        uint64_t& end) {
    EXPECT_EQ(range.in_call / (stride * type), range.in_piece / (short_stride * type))
        << "another slice";
    for (uint64_t byte = range.in_call; byte < range.in_call + range.bytes; byte += type)
      ++covered[byte];
    end = std::max(end, at + range.in_piece + range.bytes);
  };
  for (const auto& range : piece.input) look(range, covered_in, piece.input_at, ends.input);
  for (const auto& range : piece.output) look(range, covered_out, piece.output_at, ends.output);
  return ends;
}

void expect_once(const std::map<uint64_t, int>& covered, uint64_t elems, uint64_t type) {
  EXPECT_EQ(covered.size(), elems);
  for (const auto& [byte, times] : covered) EXPECT_TRUE(times == 1 && byte < elems * type);
}

void check_call(const Shape& shape, int ranks, uint64_t slot) {
  const Cut cut = cut_to_fit(shape, false, ranks, slot);
  const auto all = shape.count * static_cast<uint64_t>(ranks);
  const uint64_t in = shape.op == Collective::kReduceScatter ? all : shape.count;
  const uint64_t out = shape.op == Collective::kAllGather ? all : shape.count;
  for (const int rank : {0, ranks - 1}) {
    std::map<uint64_t, int> covered_in, covered_out;
    for (uint64_t i = 0; i < cut.pieces; ++i) {
      const Piece piece = piece_of(shape, cut, i, ranks, rank, false);
      const Ends ends = check_ranges(shape, piece, ranks, covered_in, covered_out);
      EXPECT_LE(std::max(ends.input, ends.output), slot);
      EXPECT_TRUE(piece.input.empty() || piece.output.empty() || ends.input <= piece.output_at);
    }
    expect_once(covered_in, in, quant::type_bytes(shape.type));
    expect_once(covered_out, out, quant::type_bytes(shape.type));
  }
}

TEST(Pieces, CoverEveryElementOnceAndKeepItsSlice) {
  for (const Collective op :
       {Collective::kAllGather, Collective::kReduceScatter, Collective::kAllReduce}) {
    for (const int ranks : {1, 2, 3, 7, 17}) {
      for (const uint64_t count : {1, 31, 32, 33, 1057, 4099}) {
        for (const uint64_t slot : {uint64_t{10000}, uint64_t{1} << 20})
          check_call({.op = op, .type = ncclFloat16, .count = count}, ranks, slot);
      }
    }
  }
  for (const Collective op : {Collective::kAllReduce}) {
    check_call({.op = op, .type = ncclInt64, .count = 20011, .whole = true}, 5, 10000);
  }
}

// Every rank's slice of an all-reduce has in each piece what it has of that range in the call.
TEST(Pieces, OfAnAllReduceHaveItsSlices) {
  for (const int ranks : {2, 5, 17}) {
    for (uint64_t count = 1; count < 6000; count += 37) {
      const Shape shape{.op = Collective::kAllReduce, .type = ncclFloat64, .count = count};
      const Cut cut = cut_to_fit(shape, false, ranks, 20000);
      for (uint64_t i = 0; i < cut.pieces; ++i) {
        const Piece piece = piece_of(shape, cut, i, ranks, 0, false);
        Shape range = shape;
        range.begin = i * cut.elems;
        range.elems = cut.elems;
        for (int rank = 0; rank < ranks; ++rank) {
          ASSERT_EQ(slice_elems(piece.shape, ranks, rank), slice_elems(range, ranks, rank))
              << count << " elements on " << ranks << " ranks, piece " << i << ", slice " << rank;
        }
      }
    }
  }
}

TEST(Pieces, RoundedMessagesKeepTheirBlocks) {
  const Shape shape{.op = Collective::kReduceScatter, .type = ncclFloat32, .count = 100000};
  EXPECT_EQ(cut_to_fit(shape, true, 3, 100000).elems % quant::kSuperblock, 0u);
  EXPECT_THROW((void)cut_to_fit(shape, true, 3, 4000), Error);
  EXPECT_EQ(cut_to_fit(shape, false, 3, 4000).elems % 32, 0u);
  EXPECT_THROW((void)cut_to_fit(shape, false, 3, 400), Error);
}

TEST(Pieces, InPlaceFormsOverlapAsTheCallDoes) {
  const Shape gather{.op = Collective::kAllGather, .type = ncclFloat32, .count = 10};
  const Piece gathered = piece_of(gather, {10, 1}, 0, 3, 1, true);
  EXPECT_EQ(gathered.input_at, gathered.output_at + 40);
  EXPECT_EQ(gathered.output, (std::vector<StagedRange>{{0, 0, 40}, {80, 80, 40}}));
  const Shape scatter{.op = Collective::kReduceScatter, .type = ncclFloat32, .count = 10};
  const Piece scattered = piece_of(scatter, {10, 1}, 0, 3, 2, true);
  EXPECT_EQ(scattered.output_at, scattered.input_at + 80);
  const Shape reduce{.op = Collective::kReduce, .type = ncclFloat32, .count = 10, .root = 1};
  EXPECT_FALSE(piece_of(reduce, {10, 1}, 0, 3, 0, false).receives);
}

}  // namespace
}  // namespace slimccl::runtime
