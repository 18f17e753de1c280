// How a decoded value lands in the accumulator: the first source assigns, later ones add, and a
// scale other than exactly 1 multiplies before that. Part of a kernel row: see isa.h.
#pragma once

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

}  // namespace SLIMCCL_ISA
}  // namespace slimccl::quant
