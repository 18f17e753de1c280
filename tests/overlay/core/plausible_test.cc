// What a sample of a call's input is taken for: real weights and gradients pass, and what
// compression would ruin does not, whatever type it is labelled with.
#include "core/plausible.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "quant/half.h"
#include "support/npy.h"

namespace slimccl::overlay {
namespace {

constexpr ncclDataType_t kTypes[] = {ncclFloat32, ncclBfloat16, ncclFloat16};
using Floats = std::vector<float>;

Look look(const Floats& values, ncclDataType_t type) {
  std::vector<uint16_t> halves;
  for (const float value : values) {
    halves.push_back(type == ncclFloat16 ? quant::float_to_fp16(value)
                                         : quant::float_to_bf16(value));
  }
  return type == ncclFloat32 ? look_at(std::as_bytes(std::span(values)), type)
                             : look_at(std::as_bytes(std::span(halves)), type);
}

Content content(const Floats& values, ncclDataType_t type) {
  return content_of(look(values, type));
}

// Of the non-zero elements, those that q8 makes zero.
double zeroed(const Look& look) {
  return static_cast<double>(look.zeroed) / static_cast<double>(look.nonzero);
}

Floats drawn(const std::function<double(std::mt19937&)>& draw, size_t elems = kSampleElems) {
  std::mt19937 random(5);
  Floats values(elems);
  for (float& value : values) value = static_cast<float>(draw(random));
  return values;
}

double normal(std::mt19937& random) { return std::normal_distribution<double>()(random); }
double laplace(std::mt19937& random) {
  const double size = std::exponential_distribution<double>()(random);
  return random() % 2 == 0 ? size : -size;
}
double heavy(std::mt19937& random) { return std::student_t_distribution<double>(2)(random); }

Floats scaled(Floats values, float by) {
  for (float& value : values) value *= by;
  return values;
}

// All that a file of tests/data/tensors has, in samples.
std::vector<Floats> samples_of(const std::string& name) {
  const Floats all = testing::read_npy(testing::data_path("tensors/" + name + ".npy"));
  std::vector<Floats> samples;
  for (size_t at = 0; at < all.size(); at += kSampleElems) {
    samples.emplace_back(
        all.begin() + static_cast<ptrdiff_t>(at),
        all.begin() + static_cast<ptrdiff_t>(std::min(at + kSampleElems, all.size())));
  }
  return samples;
}

TEST(OverlayPlausible, RealWeightsAndGradientsPass) {
  for (const char* name : {"weights", "gradients.rank0", "gradients.rank3", "gradients.rank7"}) {
    for (const Floats& sample : samples_of(name)) {
      for (const ncclDataType_t type : kTypes) {
        EXPECT_EQ(content(sample, type), Content::kPlausible) << name;
        EXPECT_LE(zeroed(look(sample, type)), 0.02) << name << ": docs/policy.md says so";
      }
    }
  }
}

TEST(OverlayPlausible, DrawnGradientsPassAtEverySize) {
  for (const auto& draw : {normal, laplace, heavy}) {
    const Floats values = drawn(draw);
    for (const float by : {1e-30f, 1e-3f, 1.0f, 1e30f}) {
      EXPECT_EQ(content(scaled(values, by), ncclFloat32), Content::kPlausible) << by;
      EXPECT_EQ(content(scaled(values, by), ncclBfloat16), Content::kPlausible) << by;
    }
    EXPECT_EQ(content(values, ncclFloat16), Content::kPlausible);
  }
}

TEST(OverlayPlausible, AnOverflowIsNoEvidence) {
  Floats values = drawn(normal);
  for (const ncclDataType_t type : kTypes) {
    values[5] = std::numeric_limits<float>::infinity();
    EXPECT_EQ(content(values, type), Content::kPlausible);
    for (size_t i = 0; i < values.size(); i += 3) {
      values[i] = std::numeric_limits<float>::quiet_NaN();
    }
    EXPECT_EQ(content(values, type), Content::kPlausible);
    EXPECT_EQ(content(Floats(1000, std::numeric_limits<float>::infinity()), type),
              Content::kNothing);
  }
}

TEST(OverlayPlausible, ZerosSayNothing) {
  for (const ncclDataType_t type : kTypes) {
    EXPECT_EQ(content(Floats(1000, 0.0f), type), Content::kNothing);
    EXPECT_EQ(content(Floats(1000, -0.0f), type), Content::kNothing);
    EXPECT_EQ(content({}, type), Content::kNothing);
  }
}

TEST(OverlayPlausible, SparseRowsAndNormGainsPass) {
  Floats sparse = drawn(normal);
  for (size_t i = 0; i < sparse.size(); ++i) {
    if (i / 96 % 10 != 0) sparse[i] = 0;  // an embedding's gradient: few rows
  }
  EXPECT_EQ(content(sparse, ncclBfloat16), Content::kPlausible);
  const Floats gains = drawn([](std::mt19937& random) { return 1 + 0.2 * normal(random); });
  EXPECT_EQ(content(gains, ncclBfloat16), Content::kPlausible);
  EXPECT_EQ(content(Floats(1000, 1.0f), ncclBfloat16), Content::kPlausible);
  EXPECT_EQ(content({0.5f}, ncclBfloat16), Content::kPlausible);
}

// A demotion is for good: so it needs more than the share of a handful.
TEST(OverlayPlausible, FewElementsAmongZerosSayNothing) {
  for (const ncclDataType_t type : kTypes) {
    Floats values(kSampleElems, 0.0f);
    values[100] = 1;
    values[101] = 0.001f;
    EXPECT_EQ(content(values, type), Content::kNothing) << "the smaller one becomes zero";
    for (size_t i = 0; i < 1023; ++i) values[16 * i] = i % 2 == 0 ? 1.0f : 0.001f;
    values[100] = values[101] = 0;
    EXPECT_EQ(content(values, type), Content::kNothing);
    for (size_t i = 0; i < 1024; ++i) values[16 * i] = i % 2 == 0 ? 1.0f : 0.001f;
    EXPECT_EQ(content(values, type), Content::kImplausible);
  }
  Floats small(1000, 0.0f);
  std::fill_n(small.begin(), 249, 1.0f);
  EXPECT_EQ(content(small, ncclFloat32), Content::kNothing) << "of a small sample, a quarter";
  small[249] = 1;
  EXPECT_EQ(content(small, ncclFloat32), Content::kPlausible);
}

TEST(OverlayPlausible, SecondMomentsAreRefused) {
  for (const Floats& gradient : samples_of("gradients.rank0")) {
    Floats first = gradient;
    for (float& value : first) value *= value;
    EXPECT_EQ(content(first, ncclBfloat16), Content::kImplausible) << "after one step";
    EXPECT_EQ(content(first, ncclFloat32), Content::kImplausible) << "after one step";
    EXPECT_GE(zeroed(look(first, ncclFloat32)), 0.12) << "docs/policy.md says so";
  }
  const Floats late = drawn([](std::mt19937& random) { return std::exp(2 * normal(random)); });
  EXPECT_EQ(content(late, ncclBfloat16), Content::kImplausible) << "smoothed, of uneven size";
}

// `codes` as they lie in memory, said to be floats.
Content labelled(const std::vector<uint8_t>& codes, ncclDataType_t type) {
  const Look look = look_at(std::as_bytes(std::span(codes)), type);
  EXPECT_GE(zeroed(look), 0.68) << "docs/policy.md says so";
  return content_of(look);
}

TEST(OverlayPlausible, PackedCodesAreRefusedUnderEveryLabel) {
  constexpr size_t kBytes = 2 * kSampleElems;
  const Floats values = drawn(normal, 2 * kBytes);
  std::vector<uint8_t> eight_bits(kBytes), with_zero_point(kBytes), four_bits(kBytes),
      uniform(kBytes);
  const auto four = [](float value) {
    return static_cast<uint8_t>(std::clamp(std::nearbyint(value * 2.5) + 8, 0.0, 15.0));
  };
  std::mt19937 random(6);
  for (size_t i = 0; i < kBytes; ++i) {
    const double eight = std::clamp(std::nearbyint(values[i] * 40.0), -127.0, 127.0);
    eight_bits[i] = static_cast<uint8_t>(static_cast<int8_t>(eight));
    with_zero_point[i] = static_cast<uint8_t>(eight + 128);
    four_bits[i] = static_cast<uint8_t>(four(values[2 * i]) << 4 | four(values[2 * i + 1]));
    uniform[i] = static_cast<uint8_t>(random());  // NF4: all codes are about as likely
  }
  for (const ncclDataType_t type : kTypes) {
    EXPECT_EQ(labelled(eight_bits, type), Content::kImplausible);
    EXPECT_EQ(labelled(with_zero_point, type), Content::kImplausible);
    EXPECT_EQ(labelled(four_bits, type), Content::kImplausible);
    EXPECT_EQ(labelled(uniform, type), Content::kImplausible);
  }
}

TEST(OverlayPlausible, CodesInASmallPartOfTheInputAreFound) {
  Floats values = drawn(normal);
  std::mt19937 random(6);
  for (size_t i = 0; i < kRunElems; ++i) {
    values[3 * kRunElems + i] = quant::bf16_to_float(static_cast<uint16_t>(random()));
  }
  const Look look = look_at(std::as_bytes(std::span(values)), ncclFloat32);
  EXPECT_LT(look.zeroed * 10, look.nonzero) << "few of all";
  EXPECT_GT(look.worst, 0.9);
  EXPECT_EQ(content(values, ncclBfloat16), Content::kImplausible);
}

TEST(OverlayPlausible, ASampleIsSpreadOverTheInput) {
  EXPECT_EQ(sample_runs(0), (std::vector<SampleRun>{{0, 0}}));
  EXPECT_EQ(sample_runs(kSampleElems), (std::vector<SampleRun>{{0, kSampleElems}}));
  for (const uint64_t elems : {kSampleElems + 1, uint64_t{65536}, uint64_t{1} << 40}) {
    const auto runs = sample_runs(elems);
    ASSERT_EQ(runs.size(), kSampleElems / kRunElems);
    EXPECT_EQ(runs.front().begin, 0u);
    EXPECT_EQ(runs.back().begin + kRunElems, elems);
    for (size_t i = 0; i < runs.size(); ++i) {
      EXPECT_EQ(runs[i].elems, kRunElems);
      const uint64_t free_from = i == 0 ? 0 : runs[i - 1].begin + kRunElems;
      EXPECT_GE(runs[i].begin, free_from);
    }
  }
}

TEST(OverlayPlausible, WhatQ8MakesZeroIsCountedByItsOwnRule) {
  Floats block(64, 1.0f);
  block[0] = -127;
  block[1] = 0.4f;  // less than half of a step
  block[2] = 0;
  const Look look = look_at(std::as_bytes(std::span(block)), ncclFloat32);
  EXPECT_EQ(look.nonzero, 63u);
  EXPECT_EQ(look.zeroed, 1u);
  EXPECT_EQ(look.negative, 1u);
  const Floats below(64, 1e-39f);
  const Look tiny = look_at(std::as_bytes(std::span(below)), ncclFloat32);
  EXPECT_EQ(tiny.zeroed, 64u) << "below q8's smallest scale";
}

}  // namespace
}  // namespace slimccl::overlay
