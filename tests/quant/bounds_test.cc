// The error bounds of docs/formats, element by element, and the quality on a real model's gradients
// and weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "quant/samples.h"
#include "support/npy.h"

namespace slimccl::quant::testing {
namespace {

using ::slimccl::testing::data_path;
using ::slimccl::testing::read_npy;

std::vector<float> real(const std::string& name) {
  return read_npy(data_path("tensors/" + name + ".npy"));
}

// fp64, from the bytes of the message: docs/formats once more.
double q8_scale(const Buffer& message, uint64_t i) {
  uint16_t half;
  std::memcpy(&half, message.data() + i / 2048 * 2112 + i % 2048 / 64 * 2, 2);
  return bf16_to_float(half);
}

void check_q8(const std::vector<float>& values) {
  const Kernels& kernels = all_kernels().front();
  const Buffer message = encode(kernels, values, Codec::kQ8);
  const std::vector<float> back = decode(kernels, message, Codec::kQ8, values.size());
  for (uint64_t i = 0; i < values.size(); ++i) {
    const double scale = q8_scale(message, i), error = std::fabs(double{back[i]} - values[i]);
    const double bound = scale == 0 ? 127 * 0x1p-126 * (1 + 0x1p-8) : scale / 2 * (1 + 0x1p-14);
    ASSERT_LE(error, bound) << i << ": " << values[i] << " became " << back[i];
  }
}

void check_q4s(const std::vector<float>& values) {
  const Kernels& kernels = all_kernels().front();
  const Buffer message = encode(kernels, values, Codec::kQ4s);
  const std::vector<float> back = decode(kernels, message, Codec::kQ4s, values.size());
  const uint64_t head = ((values.size() + 2047) / 2048 * 4 + 63) / 64 * 64;
  for (uint64_t start = 0; start < values.size(); start += 2048) {
    const uint64_t end = std::min(start + 2048, values.size());
    double most = 0;
    for (uint64_t i = start; i < end; ++i) most = std::max(most, std::fabs(double{values[i]}));
    const double factor = message.as<float>()[start / 2048];
    for (uint64_t i = start; i < end; ++i) {
      const auto code =
          std::to_integer<uint32_t>(message.data()[head + start / 2048 * 1088 + (i - start) / 32]) &
          0x7f;
      const double scale = factor * std::ldexp(8 + code % 8, static_cast<int>(code / 8) - 10);
      const double normal = 1.5 * scale, denormal = 0x1p-17 * most, none = 3584 * 0x1p-100;
      const double bound = factor == 0 ? none : code < 8 ? denormal : normal;
      const double error = std::fabs(double{back[i]} - values[i]);
      ASSERT_LE(error, bound * (1 + 0x1p-20)) << i << ": " << values[i] << " became " << back[i];
    }
  }
}

// Noise whose blocks differ in size by up to 2^30: all scales occur, denormal and zero ones too.
std::vector<float> uneven(uint64_t elems, uint32_t seed) {
  std::vector<float> values = noise(elems, seed);
  std::mt19937 generator(seed);
  for (uint64_t start = 0; start < elems; start += 32) {
    const float factor = std::exp2(-static_cast<float>(generator() % 300) / 10);
    for (uint64_t i = start; i < std::min(start + 32, elems); ++i) values[i] *= factor;
  }
  return values;
}

// Adversarial: peaks just above each tie of the scale's rounding, and equal peaks of the other
// sign.
std::vector<float> worst_peaks() {
  std::vector<float> values;
  for (uint32_t step = 0; step < 4096; ++step) {
    const float peak = (step % 64 == 0 ? 448 : 1) + static_cast<float>(step) / 4096;
    for (int i = 0; i < 32; ++i) values.push_back((i % 2 ? -peak : peak) * (i < 4 ? 1 : 0.93f));
  }
  return values;
}

TEST(BoundsTest, ErrorOfEachElement) {
  for (uint32_t seed = 0; seed < 8; ++seed) {
    check_q8(specials(20000, seed, false));
    check_q4s(specials(20000, seed, false));
    check_q8(uneven(20000, seed));
    check_q4s(uneven(20000, seed));
  }
  check_q8(worst_peaks());
  check_q4s(worst_peaks());
  check_q8(real("weights"));
  check_q4s(real("gradients.rank0"));
}

struct Quality {
  double snr_db, gain, mean_in_errors;
};

Quality quality(Codec codec, const std::vector<float>& x) {
  const std::vector<float> y = through(codec, x);
  double xx = 0, xy = 0, ee = 0, sum = 0;
  for (uint64_t i = 0; i < x.size(); ++i) {
    const double error = double{y[i]} - x[i];
    xx += double{x[i]} * x[i], xy += double{x[i]} * y[i], ee += error * error, sum += error;
  }
  return {10 * std::log10(xx / ee), xy / xx, sum / std::sqrt(ee)};
}

void check_quality(Codec codec, const std::vector<float>& values, double least_db, double gain) {
  const Quality found = quality(codec, values);
  EXPECT_GE(found.snr_db, least_db);
  EXPECT_NEAR(found.gain, 1, gain);
  EXPECT_LE(std::fabs(found.mean_in_errors), 4);
}

TEST(BoundsTest, NoiseIsNeitherShrunkNorShifted) {
  for (uint32_t seed = 0; seed < 5; ++seed) {
    check_quality(Codec::kQ8, noise(65536, seed, 1e-3f), 44, 0.002);
    check_quality(Codec::kQ4s, noise(65536, seed, 1e-3f), 21, 0.01);
  }
}

// The last step of training, whose tails are the heaviest: 19.4 to 20.2 dB by rank.
TEST(BoundsTest, RealGradientsInQ4s) {
  for (int rank = 0; rank < 8; ++rank) {
    SCOPED_TRACE(rank);
    const std::vector<float> gradients = real("gradients.rank" + std::to_string(rank));
    check_quality(Codec::kQ4s, gradients, 19.3, 0.01);
  }
}

TEST(BoundsTest, RealWeightsInQ8) { check_quality(Codec::kQ8, real("weights"), 46, 0.002); }

}  // namespace
}  // namespace slimccl::quant::testing
