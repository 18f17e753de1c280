// Laws of quant/fp8.h: all 256 codes, and rounding against a search of all of them.
#include "quant/fp8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "quant/samples.h"
#include "quant/textbook.h"

namespace slimccl::quant::testing {
namespace {

struct Format {
  const char* name;
  const Textbook& book;
  float (*to_float)(uint8_t);
  uint8_t (*from_float)(float);
};
constexpr Format kFormats[] = {{"e4m3", kE4m3Book, e4m3_to_float, float_to_e4m3},
                               {"e5m2", kE5m2Book, e5m2_to_float, float_to_e5m2}};

class Fp8Test : public ::testing::TestWithParam<Format> {};

TEST_P(Fp8Test, EveryCodeDecodesToItsValueAndComesBack) {
  const Format& format = GetParam();
  const Textbook& book = format.book;
  for (uint32_t code = 0; code < 256; ++code) {
    const float value = format.to_float(static_cast<uint8_t>(code));
    const double expected = book.value(code);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << code;
      ASSERT_EQ(format.from_float(value), book.nan) << code;
    } else {
      ASSERT_EQ(value, expected) << code;
      ASSERT_EQ(std::signbit(value), code >= 128) << code;
      ASSERT_EQ(format.from_float(value), code);
    }
  }
}

// The code whose value is closest, over all codes; `overflow` stands for what would come after the
// largest finite value.
uint32_t closest(float value, const Textbook& book) {
  if (std::isnan(value)) return book.nan;
  const double wanted = std::fabs(static_cast<double>(value));
  if (wanted >= book.finite(book.beyond)) {
    return book.has_infinity ? book.beyond | (value < 0 ? 0x80 : 0) : book.nan;
  }
  uint32_t best = 0;
  for (uint32_t code = 0; code <= book.beyond; ++code) {
    const double distance = std::fabs(book.finite(code) - wanted);
    const double least = std::fabs(book.finite(best) - wanted);
    if (distance < least || (distance == least && code % 2 == 0)) best = code;
  }
  if (best == book.beyond && !book.has_infinity) return book.nan;
  return best | (std::signbit(value) ? 0x80 : 0);
}

TEST_P(Fp8Test, FloatsRoundToTheNearestTiesToEven) {
  const Format& format = GetParam();
  const Textbook& book = format.book;
  const auto same = [&](uint32_t pattern) {
    const float value = float_of(pattern);
    ASSERT_EQ(format.from_float(value), closest(value, book)) << std::hex << pattern;
    ASSERT_EQ(book.nearest(value), closest(value, book)) << std::hex << pattern;
  };
  for (const uint32_t sign : {0u, 0x80000000u}) {
    // All codes' values and the midpoints between them, the largest with overflow included, and
    // both sides of each.
    for (uint32_t code = 0; code <= book.beyond; ++code) {
      const double here = book.finite(code), next = book.finite(code + 1);
      for (const double value : {here, (here + next) / 2}) {
        const uint32_t pattern = bits(static_cast<float>(value));
        for (int beside = value == 0 ? 0 : -2; beside <= 2; ++beside)
          same((pattern + beside) | sign);
      }
    }
    // Every exponent, with fractions that end in all ways.
    for (uint32_t top = 0; top < 0x7f800000 >> 19; ++top) {
      for (const uint32_t low : {0x0u, 0x1u, 0x3ffffu, 0x40000u, 0x40001u, 0x7ffffu}) {
        same(top << 19 | low | sign);
      }
    }
    for (const uint32_t pattern : {0x7f800000u, 0x7f800001u, 0x7fffffffu}) same(pattern | sign);
  }
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> exponents(-20, 18);
  for (int i = 0; i < 50000; ++i) {
    same(static_cast<uint32_t>(generator()));
    same(bits(std::exp2(exponents(generator)) * (i % 2 == 0 ? 1.0f : -1.0f)));
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Fp8Test, ::testing::ValuesIn(kFormats),
                         [](const auto& param) { return param.param.name; });

TEST(Fp8Edges, OverflowStaysVisible) {
  EXPECT_EQ(float_to_e4m3(448), 0x7e);
  EXPECT_EQ(float_to_e4m3(464), 0x7e);  // the tie, to even
  EXPECT_EQ(float_to_e4m3(std::nextafter(464.0f, 500.0f)), 0x7f);
  EXPECT_EQ(float_to_e4m3(-465), 0x7f);
  EXPECT_EQ(float_to_e4m3(-kInf), 0x7f);
  EXPECT_EQ(float_to_e4m3(-kMax), 0x7f);
  EXPECT_EQ(float_to_e5m2(57344), 0x7b);
  EXPECT_EQ(float_to_e5m2(std::nextafter(61440.0f, 0.0f)), 0x7b);
  EXPECT_EQ(float_to_e5m2(61440), 0x7c);
  EXPECT_EQ(float_to_e5m2(-kMax), 0xfc);
  EXPECT_EQ(float_to_e5m2(-kInf), 0xfc);
  EXPECT_EQ(float_to_e5m2(-kNan), 0x7e);
}

}  // namespace
}  // namespace slimccl::quant::testing
