// Whole superblocks of q4s messages, docs/formats/q4s.md. Compiled once per target, see
// vectors-inl.h.
#if defined(SLIMCCL_QUANT_Q4S_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIMCCL_QUANT_Q4S_INL_H_
#undef SLIMCCL_QUANT_Q4S_INL_H_
#else
#define SLIMCCL_QUANT_Q4S_INL_H_
#endif

#include <cstring>

#include "quant/highway/blocks-inl.h"
#include "quant/highway/land-inl.h"
#include "quant/q4s.h"

HWY_BEFORE_NAMESPACE();
namespace slimccl::quant::HWY_NAMESPACE {

constexpr size_t kHalfBlock = Q4s::kBlock / 2;

// Q4s::float_to_e4m3
HWY_INLINE VU to_e4m3(VF value) {
  const VU raw = bits(value), magnitude = hn::And(raw, word(kMagnitudeMask));
  const VF unit = hn::Mul(floats(magnitude), real(512.0f));
  const VU denormal = hn::Sub(rounded_bits(unit), word(kRounderBits));
  const VU odd = hn::And(hn::ShiftRight<20>(magnitude), word(1));
  const VU up = hn::Add(hn::Add(magnitude, word(0x7ffff)), odd);
  const VU normal = hn::Sub(hn::ShiftRight<20>(up), word(960));
  const VU code = if_less(magnitude, word(0x3c800000), denormal, normal);
  const VU sign = hn::And(hn::ShiftRight<24>(raw), word(0x80));
  return hn::IfThenZeroElse(hn::Eq(code, hn::Zero(Words())), hn::Or(code, sign));
}

// Q4s::e4m3_to_float
HWY_INLINE VF from_e4m3(VU code) {
  const VU magnitude = hn::And(code, word(0x7f));
  const VF normal = floats(hn::ShiftLeft<20>(hn::Add(magnitude, word(960))));
  const auto denormal = hn::RebindMask(Floats(), hn::Lt(magnitude, word(8)));
  const VF missing = hn::IfThenElseZero(denormal, hn::Sub(normal, real(0x1p-6f)));
  const VU sign = hn::ShiftLeft<24>(hn::And(code, word(0x80)));
  return floats(hn::Or(bits(hn::Add(normal, missing)), sign));
}

// Q4s::scale_of and Q4s::inverse_of for kLanes blocks.
HWY_INLINE void q4s_scales(VU keys, float factor, uint8_t* HWY_RESTRICT scales,
                           float* HWY_RESTRICT inverses) {
  const VF peak = floats(hn::Or(hn::ShiftRight<1>(keys), hn::ShiftLeft<31>(keys)));
  const VF wanted = hn::Mul(hn::Mul(peak, real(-0.125f)), real(1.0f / factor));
  const VU codes = to_e4m3(hn::Max(real(-448.0f), hn::Min(real(448.0f), wanted)));
  hn::StoreU(hn::TruncateTo(Bytes(), codes), Bytes(), scales);
  const VF scale = hn::Mul(real(factor), from_e4m3(codes));
  const auto usable = hn::Ne(scale, hn::Zero(Floats()));
  const VF divisor = hn::IfThenElse(usable, scale, real(1));
  hn::Store(hn::IfThenElseZero(usable, hn::Div(real(1), divisor)), Floats(), inverses);
}

// Q4s::nibble_of, in the low bits; the other bits of the low byte are 0. Adding the 8 along with
// the rounder changes no rounding.
HWY_INLINE VU nibbles(VF elems, VF inverse) {
  const VU code = bits(hn::Add(hn::Mul(elems, inverse), real(kRounder + 8)));
  return hn::Min(hn::Max(code, word(kRounderBits)), word(kRounderBits + 15));
}

template <class From>
HWY_INLINE void encode_q4s_nibbles(const typename From::Element* HWY_RESTRICT elems,
                                   const float* HWY_RESTRICT inverses, std::byte* into) {
  auto* bytes = reinterpret_cast<uint8_t*>(into);
  for (size_t b = 0; b < Q4s::kBlocks; ++b) {
    const VF inverse = real(inverses[b]);
    const auto* block = elems + b * Q4s::kBlock;
    // The first pass waits for memory; this one would leave it idle.
    prefetch_after(block, Q4s::kBlock);
    for (size_t j = 0; j < kHalfBlock; j += kLanes) {
      const VU low = nibbles(From::load(block + j), inverse);
      const VU high = nibbles(From::load(block + j + kHalfBlock), inverse);
      const VU both = hn::Or(low, hn::ShiftLeft<4>(high));
      hn::StoreU(hn::TruncateTo(Bytes(), both), Bytes(), bytes + b * kHalfBlock + j);
    }
  }
}

template <Form kForm>
HWY_INLINE void encode_q4s(const void* data, std::byte* factor_at, std::byte* record) {
  using From = Plain<kForm>;
  const auto* elems = static_cast<const typename From::Element*>(data);
  alignas(64) uint32_t keys[Q4s::kBlocks];
  alignas(64) uint8_t scales[Q4s::kBlocks];
  alignas(64) float inverses[Q4s::kBlocks];
  const auto key_of_block = [&](size_t b) HWY_ATTR {
    const auto* block = elems + b * Q4s::kBlock;
    const auto key = [&](size_t i)
                         HWY_ATTR { return hn::RotateRight<31>(bits(From::load(block + i))); };
    VU most = key(0);
    for (size_t i = kLanes; i < Q4s::kBlock; i += kLanes) most = hn::Max(most, key(i));
    return most;
  };
  VU most = hn::Zero(Words());
  for (size_t b = 0; b < Q4s::kBlocks; b += kLanes) {
    const VU of_blocks = max_of_blocks<kLanes>(b, key_of_block);
    hn::Store(of_blocks, Words(), keys + b);
    most = hn::Max(most, of_blocks);
  }
  const float factor = Q4s::factor_of(hn::GetLane(hn::MaxOfLanes(Words(), most)));
  hwy::CopyBytes<sizeof(factor)>(&factor, factor_at);
  if (!(factor > 0)) {  // nothing to tell but zeros, or but NaN
    std::memset(record, 0, Q4s::kScaleBytes);
    std::memset(record + Q4s::kScaleBytes, Q4s::kZeroNibbles, kSuperblock / 2);
    return;
  }
  for (size_t b = 0; b < Q4s::kBlocks; b += kLanes) {
    q4s_scales(hn::Load(Words(), keys + b), factor, scales + b, inverses + b);
  }
  hwy::CopyBytes<Q4s::kScaleBytes>(scales, record);
  encode_q4s_nibbles<From>(elems, inverses, record + Q4s::kScaleBytes);
}

// Whether a code times one of the scales could overflow, or is not finite anyway.
HWY_INLINE bool q4s_may_overflow(float factor) {
  return (bits_of(factor) & kMagnitudeMask) >= bits_of(0x1p110f);
}

// decode(words): the products of kLanes codes, in the low four bits of words, and a scale.
class Products {
 public:
#if HWY_TARGET <= HWY_AVX3  // a table of all sixteen products fits into a vector
  explicit HWY_INLINE Products(float scale)
      : table_(hn::Mul(hn::Sub(hn::Iota(Floats(), 0), real(8)), real(scale))) {}
  HWY_INLINE VF operator()(VU words) const {
    // The instruction looks at four bits only, but Highway's checks at all of them.
    if constexpr (HWY_IS_DEBUG_BUILD) words = hn::And(words, word(15));
    return hn::TableLookupLanes(table_, hn::IndicesFromVec(Floats(), words));
  }

 private:
  VF table_;
#else
  explicit HWY_INLINE Products(float scale) : scale_(real(scale)) {}
  // An integer below 2^23 in the mantissa of 2^23 is 2^23 more than itself: no conversion needed.
  HWY_INLINE VF operator()(VU words) const {
    const VU biased = hn::Or(hn::And(words, word(15)), word(0x4b000000));
    return hn::Mul(hn::Sub(floats(biased), real(0x1p23f + 8)), scale_);
  }

 private:
  VF scale_;
#endif
};

template <class Land>
HWY_INLINE void decode_q4s_products(float factor, const std::byte* record, const Land& land) {
  alignas(64) float scales[Q4s::kBlocks];
  const auto* bytes = reinterpret_cast<const uint8_t*>(record);
  for (size_t b = 0; b < Q4s::kBlocks; b += kLanes) {
    const VU codes = hn::PromoteTo(Words(), hn::LoadU(Bytes(), bytes + b));
    hn::Store(canonical(hn::Mul(real(factor), from_e4m3(codes))), Floats(), scales + b);
  }
  bytes += Q4s::kScaleBytes;
  for (size_t b = 0; b < Q4s::kBlocks; ++b) {
    const Products products(scales[b]);
    if (Land::kStreams && b % (64 / kHalfBlock) == 0) {
      prefetch_codes_after(bytes + b * kHalfBlock);
    }
    VU pairs[kHalfBlock / kLanes];  // all loads come before the stores, which might alias them
    for (size_t v = 0; v < kHalfBlock / kLanes; ++v) {
      pairs[v] = hn::PromoteTo(Words(), hn::LoadU(Bytes(), bytes + b * kHalfBlock + v * kLanes));
    }
    const auto product = [&](size_t i) HWY_ATTR {  // of the elements i ... of the block
      const VU both = pairs[i % kHalfBlock / kLanes];
      return products(i < kHalfBlock ? both : hn::ShiftRight<4>(both));
    };
#pragma GCC unroll 4
    for (size_t i = 0; i < Q4s::kBlock; i += 2 * kLanes) {
      land(b * Q4s::kBlock + i, product(i), product(i + kLanes));
    }
  }
}

}  // namespace slimccl::quant::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
