// DeepSpeed's rule: values worked out by hand, and the quality that research measured.
#include "quant/deepspeed.h"

#include <gtest/gtest.h>

#include <string>

#include "support/accuracy.h"
#include "support/npy.h"

namespace slimccl::quant::testing {
namespace {

using ::slimccl::testing::data_path;
using ::slimccl::testing::read_npy;
using ::slimccl::testing::sqnr_db;

using Bytes = std::vector<uint8_t>;
using Values = std::vector<float>;

// Largest magnitude 4: codes are twice the values. The largest is clamped, its negative is not;
// 1.5 and 0.5 go to the even neighbour.
TEST(DeepSpeedTest, FourBitsByHand) {
  const DeepSpeedMessage message = ds_encode({4, -4, 1, 0.75f, 0.25f, -0.6f}, 4, 6);
  EXPECT_EQ(message.scales, (Values{0.5f}));
  EXPECT_EQ(message.codes, (Bytes{0x78, 0x22, 0x0f}));
  EXPECT_EQ(ds_decode(message), (Values{3.5f, -4, 1, 1, 0, -0.5f}));
}

TEST(DeepSpeedTest, EightBitsByHand) {
  const DeepSpeedMessage message = ds_encode({2, -2, 1, -1 / 64.0f}, 8, 4);
  EXPECT_EQ(message.scales, (Values{1 / 64.0f}));
  EXPECT_EQ(message.codes, (Bytes{127, 0x80, 64, 0xff}));
  EXPECT_EQ(ds_decode(message), (Values{127 / 64.0f, -2, 1, -1 / 64.0f}));
}

TEST(DeepSpeedTest, EachGroupHasItsScaleAndTheLastMayBeShort) {
  const DeepSpeedMessage message = ds_encode({-8, 2, 0, 0, -1}, 4, 2);
  EXPECT_EQ(message.scales, (Values{1, 1, 0.125f}));  // an all-zero group has the scale 1
  EXPECT_EQ(ds_decode(message), (Values{-8, 2, 0, 0, -1}));
}

// Shards of matrices over 64 ranks, from research.
TEST(DeepSpeedTest, GroupsOfWeights) {
  EXPECT_EQ(ds8_group(4096 * 4096 / 64), 4096);
  EXPECT_EQ(ds8_group(4096 * 11008 / 64), 5504);
  EXPECT_EQ(ds8_group(8192 * 28672 / 64), 7168);
  EXPECT_EQ(ds8_group(8000), 8000);
  EXPECT_EQ(ds8_group(8008), 1144);
}

Values gradients(int rank) {
  return read_npy(data_path("tensors/gradients.rank" + std::to_string(rank) + ".npy"));
}

// research/quant.md found 12.3 and 32.1 dB over eight ranks and whole tensors; ranks differ.
TEST(DeepSpeedTest, QualityOnGradients) {
  double sum4 = 0, sum8 = 0;
  for (int rank = 0; rank < 8; ++rank) {
    const Values values = gradients(rank);
    sum4 += sqnr_db(values, through_ds4(values));
    sum8 += sqnr_db(values, ds_decode(ds_encode(values, 8, 8000)));
  }
  EXPECT_NEAR(sum4 / 8, 12.3, 0.4);
  EXPECT_NEAR(sum8 / 8, 31.8, 0.5);
}

TEST(DeepSpeedTest, QualityOnWeights) {
  const Values values = read_npy(data_path("tensors/weights.npy"));
  EXPECT_NEAR(sqnr_db(values, through_ds4(values)), 17.5, 0.1);
  EXPECT_NEAR(sqnr_db(values, through_ds8(values)), 36.3, 0.5);
}

}  // namespace
}  // namespace slimccl::quant::testing
