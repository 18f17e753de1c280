// Whole superblocks of q8 messages, docs/formats/q8.md. Compiled once per target, see
// vectors-inl.h.
#if defined(SLIMCCL_QUANT_Q8_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIMCCL_QUANT_Q8_INL_H_
#undef SLIMCCL_QUANT_Q8_INL_H_
#else
#define SLIMCCL_QUANT_Q8_INL_H_
#endif

#include "quant/highway/blocks-inl.h"
#include "quant/highway/land-inl.h"
#include "quant/q8.h"

HWY_BEFORE_NAMESPACE();
namespace slimccl::quant::HWY_NAMESPACE {

// Q8::scale_of and Q8::inverse_of for the blocks b ... b + kLanes - 1.
HWY_INLINE void q8_scales(VU absmax, uint16_t* HWY_RESTRICT scales, float* HWY_RESTRICT inverses) {
  const VF wanted = hn::Div(floats(absmax), real(127.0f));
  const VU half = hn::ShiftRight<16>(round_to_bf16<true>(wanted));
  const VF scale = floats(hn::ShiftLeft<16>(half));
  const auto usable = hn::Not(hn::Lt(scale, real(0x1p-126f)));
  const VU finite = hn::IfThenElseZero(hn::RebindMask(Words(), usable), half);
  const VU infinity = word(kInfinityBits);
  const VU stored = if_less(absmax, infinity, finite, word(kNanBits >> 16));
  hn::StoreU(hn::TruncateTo(Halves(), stored), Halves(), scales);
  const auto invertible = hn::And(usable, hn::RebindMask(Floats(), hn::Lt(absmax, infinity)));
  const VF divisor = hn::IfThenElse(invertible, scale, real(1));
  hn::StoreU(hn::IfThenElseZero(invertible, hn::Div(real(1), divisor)), Floats(), inverses);
}

// The low bytes of four vectors of 32-bit words, in order.
HWY_INLINE void store_codes(VU a, VU b, VU c, VU d, std::byte* into) {
  auto* codes = reinterpret_cast<uint8_t*>(into);
  hn::StoreU(hn::TruncateTo(Bytes(), a), Bytes(), codes);
  hn::StoreU(hn::TruncateTo(Bytes(), b), Bytes(), codes + kLanes);
  hn::StoreU(hn::TruncateTo(Bytes(), c), Bytes(), codes + 2 * kLanes);
  hn::StoreU(hn::TruncateTo(Bytes(), d), Bytes(), codes + 3 * kLanes);
}

template <Form kForm>
HWY_INLINE void encode_q8(const void* data, std::byte* record) {
  using From = Plain<kForm>;
  const auto* elems = static_cast<const typename From::Element*>(data);
  alignas(64) uint16_t scales[Q8::kBlocks];
  alignas(64) float inverses[Q8::kBlocks];
  const auto absmax_of_block = [&](size_t b) HWY_ATTR {
    const auto* block = elems + b * Q8::kBlock;
    const VU mask = word(kMagnitudeMask);
    VU most = hn::And(bits(From::load(block)), mask);
    for (size_t i = kLanes; i < Q8::kBlock; i += kLanes) {
      most = hn::Max(most, hn::And(bits(From::load(block + i)), mask));
    }
    return most;
  };
  for (size_t b = 0; b < Q8::kBlocks; b += kLanes) {
    q8_scales(max_of_blocks<kLanes>(b, absmax_of_block), scales + b, inverses + b);
  }
  hwy::CopyBytes<Q8::kScaleBytes>(scales, record);
  std::byte* codes = record + Q8::kScaleBytes;
  for (size_t b = 0; b < Q8::kBlocks; ++b) {
    // With the inverse 0 a finite element gives code 0; infinities and NaN must be kept from it.
    const VF inverse = real(inverses[b]);
    const auto live = hn::Ne(inverse, hn::Zero(Floats()));
    const auto code = [&](size_t i) HWY_ATTR {
      const VF product = hn::Mul(From::load(elems + i), inverse);
      return rounded_bits(hn::IfThenElseZero(live, product));
    };
    // The first pass waits for memory; this one would leave it idle.
    prefetch_after(elems + b * Q8::kBlock, Q8::kBlock);
#pragma GCC unroll 4
    for (size_t i = b * Q8::kBlock; i < (b + 1) * Q8::kBlock; i += 4 * kLanes) {
      store_codes(code(i), code(i + kLanes), code(i + 2 * kLanes), code(i + 3 * kLanes), codes + i);
    }
  }
}

// Whether a code times one of the scales could overflow, or is not finite anyway.
HWY_INLINE bool q8_may_overflow(const uint16_t* scales) {
  uint32_t most = 0;
  for (size_t b = 0; b < Q8::kBlocks; ++b) {
    const uint32_t magnitude = scales[b] & 0x7fffu;
    most = most > magnitude ? most : magnitude;
  }
  return most >= bits_of(0x1p120f) >> 16;
}

template <class Land>
HWY_INLINE void decode_q8_products(const uint16_t* halves, const std::byte* record,
                                   const Land& land) {
  alignas(64) float scales[Q8::kBlocks];
  for (size_t b = 0; b < Q8::kBlocks; b += kLanes) {
    hn::Store(canonical(Plain<Form::kBf16>::load(halves + b)), Floats(), scales + b);
  }
  const auto* codes = reinterpret_cast<const int8_t*>(record + Q8::kScaleBytes);
  for (size_t b = 0; b < Q8::kBlocks; ++b) {
    const VF scale = real(scales[b]);
    if constexpr (Land::kStreams) prefetch_codes_after(codes + b * Q8::kBlock);
    const auto product = [&](size_t i) HWY_ATTR {
      const auto code = hn::PromoteTo(Ints(), hn::LoadU(Codes(), codes + i));
      return hn::Mul(hn::ConvertTo(Floats(), code), scale);
    };
#pragma GCC unroll 8
    for (size_t i = 0; i < Q8::kBlock; i += 2 * kLanes) {
      const size_t first = b * Q8::kBlock + i;
      land(first, product(first), product(first + kLanes));
    }
  }
}

}  // namespace slimccl::quant::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
