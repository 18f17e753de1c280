// How a decoded value lands in the accumulator: the first source assigns, later ones add, and a
// scale other than exactly 1 multiplies before that. Part of a kernel row: see isa.h.
#pragma once

#include "quant/codec.h"
#include "quant/isa.h"

namespace slimccl::quant {
inline namespace SLIMCCL_ISA {

struct Landing {
  bool add;
  float scale;
};

template <bool kAdd, bool kScaled>
struct Land {
  float scale;
  void operator()(float& into, float value) const {
    if constexpr (kScaled) value *= scale;
    if constexpr (kAdd) value = into + value;
    into = value;
  }
};

// Calls body(Land<...>), so that the choice is made once and not per element.
template <class Body>
inline void with_land(const Landing& landing, const Body& body) {
  const bool scaled = landing.scale != 1.0f;
  if (landing.add) {
    scaled ? body(Land<true, true>{landing.scale}) : body(Land<true, false>{landing.scale});
  } else {
    scaled ? body(Land<false, true>{landing.scale}) : body(Land<false, false>{landing.scale});
  }
}

// A finite product that overflowed becomes the largest finite value; NaN stays.
inline float clamp_to_finite(float value) {
  value = kFloatMax < value ? kFloatMax : value;
  return -kFloatMax > value ? -kFloatMax : value;
}

// Whether a code of up to 8 bits times one of the scales could.
template <uint64_t kCount>
inline bool may_overflow(const float (&scales)[kCount]) {
  uint32_t most = 0;
  for (uint64_t i = 0; i < kCount; ++i) {
    const uint32_t magnitude = bits_of(scales[i]) & kMagnitudeMask;
    most = most > magnitude ? most : magnitude;
  }
  return most >= bits_of(0x1p120f);
}

// decode(into, land) lands a superblock of unclamped products; this lands them clamped, at some
// cost where that matters.
template <uint64_t kCount, class Decode>
inline void land_products(const float (&scales)[kCount], float* into, const Landing& landing,
                          const Decode& decode) {
  if (!may_overflow(scales)) {
    with_land(landing, [&](auto land) { decode(into, land); });
    return;
  }
  alignas(64) float products[kSuperblock];
  decode(products, Land<false, false>{1});
  with_land(landing, [&](auto land) {
    for (uint64_t i = 0; i < kSuperblock; ++i) land(into[i], clamp_to_finite(products[i]));
  });
}

}  // namespace SLIMCCL_ISA
}  // namespace slimccl::quant
