// Laws of quant/half.h, each against a search for the nearest value in fp64 or over all 65,536
// halves.
#include "quant/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "quant/samples.h"

namespace slimccl::quant::testing {
namespace {

// value of a half with `fraction` bits of fraction and this bias, by the textbook
double value_of(uint32_t half, int fraction, int bias) {
  const int exponent = static_cast<int>((half & 0x7fff) >> fraction);
  const double part = half & ((1u << fraction) - 1);
  const double magnitude = exponent == 0
                               ? std::ldexp(part, 1 - bias - fraction)
                               : std::ldexp(part + (1 << fraction), exponent - bias - fraction);
  return half & 0x8000 ? -magnitude : magnitude;
}

struct Format {
  const char* name;
  int fraction, bias;
  uint32_t infinity;
  float (*to_float)(uint16_t);
  uint16_t (*from_float)(float);
};
constexpr Format kFormats[] = {{"bf16", 7, 127, 0x7f80, bf16_to_float, float_to_bf16},
                               {"fp16", 10, 15, 0x7c00, fp16_to_float, float_to_fp16}};

class HalfTest : public ::testing::TestWithParam<Format> {};

TEST_P(HalfTest, EveryHalfDecodesToItsValueAndComesBack) {
  const Format& format = GetParam();
  for (uint32_t half = 0; half < 0x10000; ++half) {
    const float value = format.to_float(static_cast<uint16_t>(half));
    const uint32_t magnitude = half & 0x7fff;
    if (magnitude > format.infinity) {
      ASSERT_TRUE(std::isnan(value)) << half;
      ASSERT_EQ(format.from_float(value), format.infinity | 1u << (format.fraction - 1)) << half;
      continue;
    }
    if (magnitude == format.infinity) {
      ASSERT_EQ(value, half & 0x8000 ? -kInf : kInf);
    } else {
      ASSERT_EQ(value, value_of(half, format.fraction, format.bias)) << half;
      ASSERT_EQ(std::signbit(value), half >> 15) << half;
    }
    ASSERT_EQ(format.from_float(value), half);
  }
}

// Rounds by looking at both neighbours; beyond the largest finite value stands what would be the
// next one.
uint32_t nearest(float value, const Format& format) {
  if (std::isnan(value)) return format.infinity | 1u << (format.fraction - 1);
  const uint32_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(value));
  uint32_t low = 0, high = format.infinity;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (value_of(middle, format.fraction, format.bias) <= magnitude ? low : high) = middle;
  }
  const double down = magnitude - value_of(low, format.fraction, format.bias);
  const double up = value_of(high, format.fraction, format.bias) - magnitude;
  return sign | (up < down || (up == down && low % 2 == 1) ? high : low);
}

TEST_P(HalfTest, FloatsRoundToTheNearestTiesToEven) {
  const Format& format = GetParam();
  const auto same = [&](uint32_t pattern) {
    const float value = float_of(pattern);
    ASSERT_EQ(format.from_float(value), nearest(value, format)) << std::hex << pattern;
  };
  std::mt19937 generator(1);
  for (int i = 0; i < 200000; ++i) same(static_cast<uint32_t>(generator()));
  // All midpoints between neighbours, the largest with infinity included, and both sides of each.
  for (uint32_t half = 0; half < format.infinity; ++half) {
    const double sum = value_of(half, format.fraction, format.bias) +
                       value_of(half + 1, format.fraction, format.bias);
    const uint32_t middle = bits(static_cast<float>(sum / 2));
    for (uint32_t pattern : {middle - 1, middle, middle + 1}) {
      if (pattern <= kInfinityBits) same(pattern), same(pattern | 0x80000000);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, HalfTest, ::testing::ValuesIn(kFormats),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace slimccl::quant::testing
