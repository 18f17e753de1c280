// Where decoded vectors go: into the sum of a superblock, or straight to a plain sink. Compiled
// once per target, see vectors-inl.h.
#if defined(SLIMCCL_QUANT_LAND_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIMCCL_QUANT_LAND_INL_H_
#undef SLIMCCL_QUANT_LAND_INL_H_
#else
#define SLIMCCL_QUANT_LAND_INL_H_
#endif

#include "quant/highway/vectors-inl.h"
#include "quant/layout.h"

HWY_BEFORE_NAMESPACE();
namespace slimccl::quant::HWY_NAMESPACE {

// How a source enters the sum: the first assigns, later ones add; a scale other than 1 multiplies
// before that.
enum class Entry : uint8_t { kAssign, kScale, kAdd, kScaleAndAdd };

inline Entry entry_of(bool first, float scale) {
  const bool scaled = scale != 1.0f;
  if (first) return scaled ? Entry::kScale : Entry::kAssign;
  return scaled ? Entry::kScaleAndAdd : Entry::kAdd;
}

template <Entry kEntry>
HWY_INLINE VF enter(VF value, const float* sum, float scale) {
  constexpr bool kScaled = kEntry == Entry::kScale || kEntry == Entry::kScaleAndAdd;
  constexpr bool kAdded = kEntry == Entry::kAdd || kEntry == Entry::kScaleAndAdd;
  if constexpr (kScaled) value = hn::Mul(value, real(scale));
  if constexpr (kAdded) value = hn::Add(hn::Load(Floats(), sum), value);
  return value;
}

// A landing takes two neighbouring vectors, of the elements i ... i + 2 * kLanes - 1 of a
// superblock. clean() is what to use for values without NaN and below 2^127.
template <Entry kEntry>
struct IntoSum {
  static constexpr bool kSums = true, kStreams = false;
  float* sum;  // aligned
  float scale;
  HWY_INLINE void operator()(size_t i, VF a, VF b) const {
    hn::Store(enter<kEntry>(a, sum + i, scale), Floats(), sum + i);
    hn::Store(enter<kEntry>(b, sum + i + kLanes, scale), Floats(), sum + i + kLanes);
  }
  [[nodiscard]] HWY_INLINE IntoSum clean() const { return *this; }
};

// Straight to a plain sink, after adding to the sum of the sources before. kStream stores past the
// caches: `data` is then aligned to vectors.
template <Form kForm, Entry kEntry, bool kSaturate, bool kStream, bool kClean = false>
struct IntoPlain {
  static constexpr bool kSums = kEntry != Entry::kAssign, kStreams = kStream;
  typename Plain<kForm>::Element* data;
  const float* sum;
  HWY_INLINE void operator()(size_t i, VF a, VF b) const {
    a = enter<kEntry>(a, sum + i, 1);
    b = enter<kEntry>(b, sum + i + kLanes, 1);
    if constexpr (kSaturate) {
      a = saturated<Plain<kForm>::kMost>(a);
      b = saturated<Plain<kForm>::kMost>(b);
    }
    Plain<kForm>::template store_pair<kStream, kClean>(a, b, data + i);
  }
  [[nodiscard]] HWY_INLINE auto clean() const {
    constexpr bool kStays = kEntry == Entry::kAssign;  // a sum may have a NaN of its own
    constexpr bool kReaches = kForm == Form::kFp16;    // its kMost is below 2^127
    constexpr bool kSaturates = kSaturate && (kReaches || !kStays);
    return IntoPlain<kForm, kEntry, kSaturates, kStream, kStays>{data, sum};
  }
};

// Calls body(IntoSum<...>), so that the choice is made once and not per vector.
template <class Body>
HWY_INLINE void with_sum(float* sum, Entry entry, float scale, const Body& body) {
  if (entry == Entry::kAssign) return body(IntoSum<Entry::kAssign>{sum, 1});
  if (entry == Entry::kScale) return body(IntoSum<Entry::kScale>{sum, scale});
  if (entry == Entry::kAdd) return body(IntoSum<Entry::kAdd>{sum, 1});
  body(IntoSum<Entry::kScaleAndAdd>{sum, scale});
}

// A plain sink's superblock, and what is to be added to the last source.
struct PlainSink {
  Form form;
  bool saturate, stream;
  void* data;
  bool add;
  const float* sum;
};

template <Form kForm, Entry kEntry, bool kSaturate, class Body>
HWY_INLINE void with_stream(const PlainSink& sink, const Body& body) {
  using Element = typename Plain<kForm>::Element;
  auto* data = static_cast<Element*>(sink.data);
  const bool aligned = reinterpret_cast<uintptr_t>(data) % (kLanes * sizeof(float)) == 0;
  if (sink.stream && aligned) {
    return body(IntoPlain<kForm, kEntry, kSaturate, true>{data, sink.sum});
  }
  body(IntoPlain<kForm, kEntry, kSaturate, false>{data, sink.sum});
}

// Sums are not saturated: fold_to_plain keeps the rare rest from here.
template <Form kForm, class Body>
HWY_INLINE void with_form(const PlainSink& sink, const Body& body) {
  if (sink.add) return with_stream<kForm, Entry::kAdd, false>(sink, body);
  if (kForm == Form::kFp32 || !sink.saturate) {
    return with_stream<kForm, Entry::kAssign, false>(sink, body);
  }
  with_stream<kForm, Entry::kAssign, kForm != Form::kFp32>(sink, body);
}

// Calls body(IntoPlain<...>).
template <class Body>
HWY_INLINE void with_plain(const PlainSink& sink, const Body& body) {
  if (sink.form == Form::kFp32) return with_form<Form::kFp32>(sink, body);
  if (sink.form == Form::kBf16) return with_form<Form::kBf16>(sink, body);
  with_form<Form::kFp16>(sink, body);
}

template <Form kForm>
HWY_INLINE auto elements(const void* data) {
  return static_cast<const typename Plain<kForm>::Element*>(data);
}

template <Form kForm, class Land>
HWY_INLINE void decode_plain(const void* data, const Land& land) {
  const auto* from = elements<kForm>(data);
  for (size_t i = 0; i < kSuperblock; i += 2 * kLanes) {
    if constexpr (Land::kSums) prefetch_after(from + i, 2 * kLanes);
    land(i, Plain<kForm>::load(from + i), Plain<kForm>::load(from + i + kLanes));
  }
}

// The first two sources at once, the commonest sum.
template <Form kForm>
HWY_INLINE void sum_plain(const void* first, float first_scale, const void* second,
                          float second_scale, float* sum) {
  const IntoSum<Entry::kAssign> land{sum, 1};
  const auto *a = elements<kForm>(first), *b = elements<kForm>(second);
  const auto both = [&](size_t i) HWY_ATTR {
    return hn::Add(hn::Mul(Plain<kForm>::load(a + i), real(first_scale)),
                   hn::Mul(Plain<kForm>::load(b + i), real(second_scale)));
  };
  for (size_t i = 0; i < kSuperblock; i += 2 * kLanes) {
    prefetch_after(a + i, 2 * kLanes);
    prefetch_after(b + i, 2 * kLanes);
    land(i, both(i), both(i + kLanes));
  }
}

}  // namespace slimccl::quant::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
