// Vectors of up to 16 floats and their way from and to memory, compiled once per target (Highway's
// foreach_target.h includes this again for each, hence the guard). Everything here gives the bits
// of quant/{bits,half}.h.
#if defined(SLIMCCL_QUANT_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIMCCL_QUANT_VECTORS_INL_H_
#undef SLIMCCL_QUANT_VECTORS_INL_H_
#else
#define SLIMCCL_QUANT_VECTORS_INL_H_
#endif

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "quant/form.h"
#include "quant/half.h"

HWY_BEFORE_NAMESPACE();
namespace slimccl::quant::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Words = hn::Rebind<uint32_t, Floats>;
using Ints = hn::Rebind<int32_t, Floats>;
using Halves = hn::Rebind<uint16_t, Floats>;
using HalfPairs = hn::Repartition<uint16_t, Floats>;  // as many bytes as Floats
using Fp16s = hn::Rebind<hwy::float16_t, Floats>;
using Bytes = hn::Rebind<uint8_t, Floats>;
using Codes = hn::Rebind<int8_t, Floats>;
using VF = hn::Vec<Floats>;
using VU = hn::Vec<Words>;
constexpr size_t kLanes = hn::MaxLanes(Floats());

HWY_INLINE VU word(uint32_t value) { return hn::Set(Words(), value); }
HWY_INLINE VF real(float value) { return hn::Set(Floats(), value); }
HWY_INLINE VU bits(VF value) { return hn::BitCast(Words(), value); }
HWY_INLINE VF floats(VU value) { return hn::BitCast(Floats(), value); }
HWY_INLINE VU if_less(VU a, VU b, VU yes, VU no) { return hn::IfThenElse(hn::Lt(a, b), yes, no); }

// The nearest integer, ties to even, in the low bits (see kRounder). Highway's NearestInt would
// also repair what overflows, which cannot happen here.
HWY_INLINE VU rounded_bits(VF value) { return bits(hn::Add(value, real(kRounder))); }

HWY_INLINE VF canonical(VF value) {
  return hn::IfThenElse(hn::IsNaN(value), floats(word(kNanBits)), value);
}

HWY_INLINE VF clamp_to_finite(VF value) {  // comparisons with a NaN are false: it stays
  const VF most = real(kFloatMax), least = real(-kFloatMax);
  value = hn::IfThenElse(hn::Lt(most, value), most, value);
  return hn::IfThenElse(hn::Gt(least, value), least, value);
}

template <uint32_t kMost>
HWY_INLINE VF saturated(VF value) {
  const VU magnitude = hn::And(bits(value), word(kMagnitudeMask));
  const VU limited = hn::Min(magnitude, word(kMost));
  const VU kept = if_less(magnitude, word(kInfinityBits), limited, magnitude);
  return floats(hn::Or(kept, hn::AndNot(word(kMagnitudeMask), bits(value))));
}

// Hardware prefetchers stop at the end of a page, which a superblock of bf16 just fills: this
// fetches what lies 8 KiB after `elems` elements. ./dev bench codecs shows it, out of cache.
template <class Element>
HWY_INLINE void prefetch_after(const Element* from, size_t elems) {
  constexpr size_t kAhead = 8192 / sizeof(Element);
  for (size_t i = 0; i < elems; i += 64 / sizeof(Element)) hwy::Prefetch(from + kAhead + i);
}

// The same for 64 bytes of codes, of which a superblock has fewer. In cache it would cost more than
// it brings, so it is for folds that stream.
template <class Code>
HWY_INLINE void prefetch_codes_after(const Code* from) {
  hwy::Prefetch(from + 4096);
}

template <bool kStream, class D>
HWY_INLINE void store(hn::Vec<D> value, D tag, hn::TFromD<D>* into) {
  kStream ? hn::Stream(value, tag, into) : hn::StoreU(value, tag, into);
}

// Plain elements of one type: how they are loaded, and how two neighbouring vectors are converted
// and stored. kClean: they hold no NaN, and nothing that rounding could take beyond kMost.
template <Form kForm>
struct Plain;

template <>
struct Plain<Form::kFp32> {
  using Element = float;
  static constexpr uint32_t kMost = kMaxBits;
  static HWY_INLINE VF load(const float* from) { return hn::LoadU(Floats(), from); }
  template <bool kStream, bool kClean>
  static HWY_INLINE void store_pair(VF a, VF b, float* into) {
    store<kStream>(kClean ? a : canonical(a), Floats(), into);
    store<kStream>(kClean ? b : canonical(b), Floats(), into + kLanes);
  }
};

// The bf16 nearest to `value`, ties to even, in the upper half (Highway's own demotion truncates).
template <bool kClean>
HWY_INLINE VU round_to_bf16(VF value) {
  const VU raw = bits(value), odd = hn::And(hn::ShiftRight<16>(raw), word(1));
  const VU rounded = hn::Add(hn::Add(raw, word(0x7fff)), odd);
  if constexpr (kClean) return rounded;
  return hn::IfThenElse(hn::RebindMask(Words(), hn::IsNaN(value)), word(kNanBits), rounded);
}

// The upper halves of two vectors, in order. Packing interleaves pieces of 64 bits.
HWY_INLINE hn::Vec<HalfPairs> upper_halves(VU a, VU b) {
  const hn::Repartition<int16_t, Floats> halves;
  const hn::Repartition<uint64_t, Floats> pieces;
  alignas(64) static constexpr uint64_t kOrder[][8] = {
      {0, 1}, {0, 2, 1, 3}, {0, 2, 4, 6, 1, 3, 5, 7}};
  const auto high_a = hn::ShiftRight<16>(hn::BitCast(Ints(), a));
  const auto high_b = hn::ShiftRight<16>(hn::BitCast(Ints(), b));
  const auto packed = hn::BitCast(pieces, hn::ReorderDemote2To(halves, high_a, high_b));
  const auto order = hn::SetTableIndices(pieces, kOrder[kLanes / 8]);
  return hn::BitCast(HalfPairs(), hn::TableLookupLanes(packed, order));
}

template <>
struct Plain<Form::kBf16> {
  using Element = uint16_t;
  static constexpr uint32_t kMost = kBf16MaxBits;
  static HWY_INLINE VF load(const uint16_t* from) {
    return floats(hn::ShiftLeft<16>(hn::PromoteTo(Words(), hn::LoadU(Halves(), from))));
  }
  template <bool kStream, bool kClean>
  static HWY_INLINE void store_pair(VF a, VF b, uint16_t* into) {
    const auto both = upper_halves(round_to_bf16<kClean>(a), round_to_bf16<kClean>(b));
    store<kStream>(both, HalfPairs(), into);
  }
};

template <>
struct Plain<Form::kFp16> {
  using Element = uint16_t;
  static constexpr uint32_t kMost = kFp16MaxBits;
// From AVX2 on x86 has instructions for it, with our bits. What Highway does without them it does
// not promise to the bit.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  static HWY_INLINE VF load(const uint16_t* from) {
    return hn::PromoteTo(Floats(), hn::BitCast(Fp16s(), hn::LoadU(Halves(), from)));
  }
  template <bool kClean>
  static HWY_INLINE hn::Vec<Halves> convert(VF value) {
    return hn::BitCast(Halves(), hn::DemoteTo(Fp16s(), kClean ? value : canonical(value)));
  }
#else  // quant/half.h in vectors
  static HWY_INLINE VF load(const uint16_t* from) {
    const VU half = hn::PromoteTo(Words(), hn::LoadU(Halves(), from));
    const VU magnitude = hn::ShiftLeft<13>(hn::And(half, word(0x7fff)));
    const VU smallest = word(0x38800000), rebias = word((127 - 15) << 23);
    const VU normal = hn::Add(magnitude, rebias);
    const VU denormal = bits(hn::Sub(floats(hn::Add(magnitude, smallest)), floats(smallest)));
    VU result = if_less(magnitude, word(0x00800000), denormal, normal);
    result = if_less(magnitude, word(0x0f800000), result, hn::Add(normal, rebias));
    return floats(hn::Or(result, hn::ShiftLeft<16>(hn::And(half, word(0x8000)))));
  }
  template <bool kClean>
  static HWY_INLINE hn::Vec<Halves> convert(VF value) {
    const VU raw = bits(value), magnitude = hn::And(raw, word(kMagnitudeMask));
    const VU odd = hn::And(hn::ShiftRight<13>(magnitude), word(1));
    const VU rebiased = hn::Sub(magnitude, word(((127 - 15) << 23) - 0xfff));
    const VU normal = hn::ShiftRight<13>(hn::Add(rebiased, odd));
    const VU denormal = hn::Sub(bits(hn::Add(floats(magnitude), real(0.5f))), word(0x3f000000));
    VU half = if_less(magnitude, word(0x38800000), denormal, normal);
    half = if_less(magnitude, word(0x477ff000), half, word(0x7c00));
    half = hn::Or(half, hn::And(hn::ShiftRight<16>(raw), word(0x8000)));
    half = if_less(word(kInfinityBits), magnitude, word(0x7e00), half);
    return hn::TruncateTo(Halves(), half);
  }
#endif
  template <bool kStream, bool kClean>
  static HWY_INLINE void store_pair(VF a, VF b, uint16_t* into) {
    // Whole vectors: Highway streams half a vector of 128 bits as a whole one.
    const auto both = hn::Combine(HalfPairs(), convert<kClean>(b), convert<kClean>(a));
    store<kStream>(both, HalfPairs(), into);
  }
};

}  // namespace slimccl::quant::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
