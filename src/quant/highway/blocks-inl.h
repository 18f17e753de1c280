// Reductions within blocks of elements. Compiled once per target, see vectors-inl.h.
#if defined(SLIMCCL_QUANT_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIMCCL_QUANT_BLOCKS_INL_H_
#undef SLIMCCL_QUANT_BLOCKS_INL_H_
#else
#define SLIMCCL_QUANT_BLOCKS_INL_H_
#endif

#include "quant/highway/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace slimccl::quant::HWY_NAMESPACE {

// max of neighbouring lanes: [a0|a1, a2|a3, ..., b0|b1, b2|b3, ...]
HWY_INLINE VU pairwise_max(VU a, VU b) {
  return hn::Max(hn::ConcatEven(Words(), b, a), hn::ConcatOdd(Words(), b, a));
}

// Lane i becomes the largest lane of the vector of_block(first + i), for kCount of these; a tree,
// which takes half the shuffles of as many MaxOfLanes.
template <size_t kCount, class OfBlock>
HWY_INLINE VU max_of_blocks(size_t first, const OfBlock& of_block) {
  if constexpr (kCount == 1) {
    return of_block(first);
  } else {
    return pairwise_max(max_of_blocks<kCount / 2>(first, of_block),
                        max_of_blocks<kCount / 2>(first + kCount / 2, of_block));
  }
}

}  // namespace slimccl::quant::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
