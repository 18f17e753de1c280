#include "quant/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace slimccl::quant {
namespace {

using ::testing::HasSubstr;

TEST(CodecTest, NamesComeBack) {
  for (const Codec codec : kAllCodecs) EXPECT_EQ(codec_from_name(name(codec)), codec);
  try {
    (void)codec_from_name("q5");
    FAIL() << "q5 was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ncclInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("\"q5\""));
    EXPECT_THAT(error.what(), HasSubstr("tensor, fp32, bf16, q8, q4s"));
  }
}

TEST(CodecTest, TypesHaveSizesAndNames) {
  EXPECT_EQ(type_bytes(ncclInt8), 1u);
  EXPECT_EQ(type_bytes(ncclFloat16), 2u);
  EXPECT_EQ(type_bytes(ncclBfloat16), 2u);
  EXPECT_EQ(type_bytes(ncclFloat32), 4u);
  EXPECT_EQ(type_bytes(ncclFloat64), 8u);
  EXPECT_EQ(type_bytes(ncclUint64), 8u);
  EXPECT_EQ(type_bytes(ncclFloat8e5m2), 1u);
  EXPECT_EQ(type_name(ncclBfloat16), "bf16");
  EXPECT_EQ(type_name(ncclFloat8e4m3), "fp8e4m3");
  EXPECT_THROW((void)type_bytes(ncclNumTypes), Error);
  EXPECT_TRUE(is_float(ncclFloat16) && is_float(ncclBfloat16) && is_float(ncclFloat32));
  EXPECT_FALSE(is_float(ncclFloat64) || is_float(ncclInt32));
}

TEST(CodecTest, LosslessMeansEveryElementSurvives) {
  EXPECT_TRUE(is_lossless(Codec::kTensor, ncclInt64));
  EXPECT_TRUE(is_lossless(Codec::kFp32, ncclFloat16));
  EXPECT_FALSE(is_lossless(Codec::kFp32, ncclFloat64));
  EXPECT_TRUE(is_lossless(Codec::kBf16, ncclBfloat16));
  EXPECT_FALSE(is_lossless(Codec::kBf16, ncclFloat16));
  EXPECT_FALSE(is_lossless(Codec::kQ8, ncclBfloat16));
  EXPECT_FALSE(is_lossless(Codec::kQ4s, ncclFloat32));
}

// The layouts of docs/formats, added up piece by piece.
uint64_t counted(Codec codec, uint64_t elems) {
  uint64_t bytes = 0;
  if (codec == Codec::kQ4s) {
    for (uint64_t i = 0; i < elems; i += 2048) bytes += 4;
    while (bytes % 64 != 0) ++bytes;
  }
  for (uint64_t i = 0; i < elems; ++i) {
    if (i % 2048 == 0) bytes += 64;  // 32 bf16 scales, or 64 E4M3 scales
    if (codec == Codec::kQ8 && i % 16 == 0) bytes += 16;
    if (codec == Codec::kQ4s && i % 32 == 0) bytes += 16;
  }
  while (bytes % 64 != 0) ++bytes;
  return bytes;
}

TEST(CodecTest, MessageSizesAddUp) {
  for (const Codec codec : {Codec::kQ8, Codec::kQ4s}) {
    for (uint64_t elems = 0; elems < 6200; ++elems) {
      ASSERT_EQ(encoded_bytes(codec, ncclFloat32, elems), counted(codec, elems)) << elems;
    }
    EXPECT_EQ(encoded_bytes(codec, ncclFloat32, 100000), counted(codec, 100000));
  }
  EXPECT_EQ(encoded_bytes(Codec::kQ8, ncclFloat16, 2048), 2112u);
  EXPECT_EQ(encoded_bytes(Codec::kQ4s, ncclFloat16, 2048), 64u + 1088u);
}

TEST(CodecTest, PlainEncodingsAreNotPadded) {
  for (const uint64_t elems : {0, 1, 31, 33, 5000}) {
    EXPECT_EQ(encoded_bytes(Codec::kTensor, ncclInt8, elems), elems);
    EXPECT_EQ(encoded_bytes(Codec::kTensor, ncclFloat64, elems), elems * 8);
    EXPECT_EQ(encoded_bytes(Codec::kFp32, ncclBfloat16, elems), elems * 4);
    EXPECT_EQ(encoded_bytes(Codec::kBf16, ncclFloat32, elems), elems * 2);
  }
}

}  // namespace
}  // namespace slimccl::quant
