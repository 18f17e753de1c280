// What fold() promises in quant/kernels.h and DESIGN's rules, on the reference row (rows_test.cc
// ties the others to it).
#include <gtest/gtest.h>

#include <cmath>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/error.h"
#include "quant/samples.h"

namespace slimccl::quant::testing {
namespace {

constexpr ncclDataType_t kTypes[] = {ncclFloat32, ncclBfloat16, ncclFloat16};
constexpr Codec kMessages[] = {Codec::kQ8, Codec::kQ4s};
const Kernels& reference() { return all_kernels().front(); }

std::vector<float> values_of(const Buffer& tensor, ncclDataType_t type, uint64_t elems) {
  const Buffer out =
      fold(reference(), {{tensor.data(), Codec::kTensor, 1}}, Codec::kFp32, type, elems);
  return {out.as<float>(), out.as<float>() + elems};
}

TEST(FoldTest, SumsInTheOrderGivenAndRoundsOnce) {
  constexpr uint64_t kElems = 3000;
  constexpr float kScales[] = {1, 0.3f, 1, -2.7f};
  for (const ncclDataType_t type : kTypes) {
    std::vector<Buffer> tensors;
    std::vector<Source> sources;
    std::vector<float> sum(kElems);
    for (uint32_t k = 0; k < 4; ++k) {
      tensors.push_back(plain(noise(kElems, k + 1, 100), type));
      sources.push_back({tensors[k].data(), Codec::kTensor, kScales[k]});
      const std::vector<float> values = values_of(tensors[k], type, kElems);
      for (uint64_t i = 0; i < kElems; ++i) {
        const float term = kScales[k] == 1 ? values[i] : values[i] * kScales[k];
        sum[i] = k == 0 ? term : sum[i] + term;
      }
    }
    EXPECT_TRUE(fold(reference(), sources, Codec::kTensor, type, kElems) == plain(sum, type));
    EXPECT_TRUE(fold(reference(), sources, Codec::kQ8, type, kElems) ==
                encode(reference(), sum, Codec::kQ8));
  }
}

TEST(FoldTest, AMessageIsWorthItsDecodedElements) {
  constexpr uint64_t kElems = 5000;
  for (const Codec codec : kMessages) {
    std::vector<Buffer> messages, decoded;
    std::vector<Source> packed, unpacked;
    for (uint32_t k = 0; k < 3; ++k) {
      const float scale = k == 1 ? 1 : 0.7f;
      messages.push_back(encode(reference(), specials(kElems, k), codec));
      packed.push_back({messages.back().data(), codec, scale});
      decoded.push_back(plain(decode(reference(), messages.back(), codec, kElems), ncclFloat32));
      unpacked.push_back({decoded.back().data(), Codec::kFp32, scale});
    }
    for (const Codec to : kAllCodecs) {
      EXPECT_TRUE(fold(reference(), packed, to, ncclFloat16, kElems) ==
                  fold(reference(), unpacked, to, ncclFloat16, kElems))
          << name(codec) << " to " << name(to);
    }
  }
}

TEST(FoldTest, TheSinkMayBeAnySource) {
  constexpr uint64_t kElems = 4500;
  for (const ncclDataType_t type : kTypes) {
    for (int count = 1; count <= 3; ++count) {
      for (int same = 0; same < count; ++same) {
        for (const float scale : {1.0f, 0.5f}) {
          std::vector<Buffer> tensors;
          std::vector<Source> sources;
          for (int k = 0; k < count; ++k) {
            tensors.push_back(
                plain(noise(kElems, static_cast<uint32_t>(k)), type, 6 * type_bytes(type)));
            sources.push_back({tensors.back().data(), Codec::kTensor, scale});
          }
          const Buffer expected = fold(reference(), sources, Codec::kTensor, type, kElems);
          for (const Kernels& kernels : all_kernels()) {
            const std::vector<float> before = values_of(tensors[same], type, kElems);
            kernels.fold(sources, {tensors[same].data(), Codec::kTensor, false}, type, kElems);
            EXPECT_TRUE(tensors[same] == expected) << kernels.name << " " << count << " " << same;
            tensors[same] = plain(before, type, 6 * type_bytes(type));
            sources[same].data = tensors[same].data();
          }
        }
      }
    }
  }
}

TEST(FoldTest, ACopyKeepsEveryBit) {
  const std::vector<float> values = specials(3000, 3);
  EXPECT_EQ(std::memcmp(encode(reference(), values, Codec::kTensor).data(), values.data(), 12000),
            0);
}

// x86 makes a negative NaN of inf - inf, a GPU a positive one, and the payload of a sum of NaN
// depends on their order.
TEST(FoldTest, ThereIsOneNan) {
  const std::vector<float> a = {kInf, float_of(0xffc12345), 1, float_of(0x7f800001)};
  const std::vector<float> b = {-kInf, float_of(0x7fc54321), float_of(0xffffffff), 2};
  const auto data = [](const auto& v) { return reinterpret_cast<const std::byte*>(v.data()); };
  for (const Kernels& kernels : all_kernels()) {
    const Buffer sum = fold(kernels, {{data(a), Codec::kFp32, 1}, {data(b), Codec::kFp32, 1}},
                            Codec::kFp32, ncclFloat32, 4);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(sum.as<uint32_t>()[i], 0x7fc00000) << i;
  }
}

// An encoder that follows docs/formats comes close to such scales but not there; a decoder must not
// rely on it.
TEST(FoldTest, ProductsThatOverflowBecomeTheLargestFiniteValue) {
  constexpr uint64_t kElems = 2048;
  Buffer q8 = encode(reference(), std::vector<float>(kElems, -127.0f), Codec::kQ8);
  q8.as<uint16_t>()[3] = 0x7f00;  // 2^127, times -127
  q8.as<uint16_t>()[4] = 0x7fc0;
  Buffer q4s = encode(reference(), std::vector<float>(kElems, -1.0f), Codec::kQ4s);
  q4s.as<float>()[0] = 0x1p125f;  // times 448, times -8
  for (const Kernels& kernels : all_kernels()) {
    const std::vector<float> from_q8 = decode(kernels, q8, Codec::kQ8, kElems);
    for (uint64_t i = 0; i < kElems; ++i) {
      if (i / 64 == 4) {
        EXPECT_TRUE(std::isnan(from_q8[i]));
      } else {
        EXPECT_EQ(from_q8[i], i / 64 == 3 ? -kMax : -127.0f) << i;
      }
    }
    for (const float value : decode(kernels, q4s, Codec::kQ4s, kElems)) EXPECT_EQ(value, -kMax);
    // The clamp comes before the scale.
    const Buffer halved =
        fold(kernels, {{q4s.data(), Codec::kQ4s, 0.5f}}, Codec::kFp32, ncclFloat32, kElems);
    EXPECT_EQ(halved.as<float>()[7], -kMax / 2);
  }
}

TEST(FoldTest, SaturationSparesOverflowButNotInfinity) {
  struct Case {
    ncclDataType_t type;
    float largest;
    uint16_t largest_bits, infinity_bits, nan_bits;
  };
  constexpr Case kCases[] = {{ncclBfloat16, 0x1.fep127f, 0x7f7f, 0x7f80, 0x7fc0},
                             {ncclFloat16, 65504, 0x7bff, 0x7c00, 0x7e00}};
  for (const Case& c : kCases) {
    const std::vector<float> values = {c.largest, kMax, -kMax, kInf, -kInf, kNan, 1};
    const auto* data = reinterpret_cast<const std::byte*>(values.data());
    const Source source{data, Codec::kFp32, 1};
    for (const Kernels& kernels : all_kernels()) {
      const auto bits_with = [&](bool saturate) {
        const Buffer sink = fold(kernels, {source}, Codec::kTensor, c.type, 7, 0, saturate);
        return std::vector<uint16_t>(sink.as<uint16_t>(), sink.as<uint16_t>() + 6);
      };
      const uint16_t sign = 0x8000, top = c.largest_bits, inf = c.infinity_bits;
      const uint16_t minus_inf = inf | sign, minus_top = top | sign;
      EXPECT_EQ(bits_with(true),
                (std::vector<uint16_t>{top, top, minus_top, inf, minus_inf, c.nan_bits}));
      EXPECT_EQ(bits_with(false),
                (std::vector<uint16_t>{top, inf, minus_inf, inf, minus_inf, c.nan_bits}));
    }
  }
}

TEST(FoldTest, PaddingIsZero) {
  for (const uint64_t elems : {1, 15, 16, 17, 33, 2047, 2049, 2065, 40000}) {
    const std::vector<float> ones(elems, 1.0f);
    const uint64_t left = elems % kSuperblock;
    // q8: the last record has codes for a multiple of 16 elements, the missing ones are 0.
    const Buffer q8 = encode(reference(), ones, Codec::kQ8);
    for (uint64_t at = elems / 2048 * 2112 + (left > 0 ? 64 + left : 0); at < q8.bytes(); ++at) {
      EXPECT_EQ(q8.data()[at], std::byte{0}) << elems << " " << at;
    }
    // q4s: behind the factors, and behind the nibbles of the last block.
    const Buffer q4s = encode(reference(), ones, Codec::kQ4s);
    const uint64_t factors = (elems + 2047) / 2048 * 4, head = (factors + 63) / 64 * 64;
    for (uint64_t at = factors; at < head; ++at) EXPECT_EQ(q4s.data()[at], std::byte{0});
    const uint64_t used = head + elems / 2048 * 1088 + (left > 0 ? 64 + (left + 31) / 32 * 16 : 0);
    for (uint64_t at = used; at < q4s.bytes(); ++at) EXPECT_EQ(q4s.data()[at], std::byte{0});
    for (uint64_t block = (left + 31) / 32; left > 0 && block < 64; ++block) {
      EXPECT_EQ(q4s.data()[head + elems / 2048 * 1088 + block], std::byte{0});
    }
  }
}

TEST(FoldTest, MissingElementsOfABlockAreZeroElements) {
  const Buffer message = encode(reference(), {1.0f}, Codec::kQ4s);
  EXPECT_EQ(message.data()[64 + 64], std::byte{0x80});  // element 0 is -8 times its scale
  for (int j = 1; j < 16; ++j) EXPECT_EQ(message.data()[64 + 64 + j], std::byte{0x88});
}

TEST(FoldTest, NonFiniteElementsTakeTheirBlockAlong) {
  for (const float poison : {kInf, -kInf, kNan, -kNan, float_of(0x7f800001)}) {
    std::vector<float> values = noise(3 * kSuperblock, 1);
    values[2048 + 700] = poison;
    const std::vector<float> q4s = through(Codec::kQ4s, values), q8 = through(Codec::kQ8, values);
    for (uint64_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(std::isnan(q4s[i]), i / 2048 == 1) << i;
      ASSERT_EQ(std::isnan(q8[i]), i / 64 == (2048 + 700) / 64) << i;
    }
  }
}

TEST(FoldTest, FiniteElementsStayFinite) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const std::vector<float> values = specials(5000, seed, false);
    for (const Codec codec : kMessages) {
      for (const float value : through(codec, values)) ASSERT_TRUE(std::isfinite(value));
    }
  }
}

TEST(FoldTest, ZerosAreExactAndDenormalsVanish) {
  for (const Codec codec : kMessages) {
    for (const float tiny : {0.0f, -0.0f, 1e-45f, -0x1p-127f}) {
      for (const float value : through(codec, std::vector<float>(100, tiny))) {
        EXPECT_EQ(value, 0);
      }
    }
    std::vector<float> half_zero = noise(4096, 1);
    std::fill(half_zero.begin() + 256, half_zero.begin() + 1024, 0.0f);
    const std::vector<float> back = through(codec, half_zero);
    for (int i = 256; i < 1024; ++i) EXPECT_EQ(bits(back[i]), 0u);
  }
}

#if defined(__x86_64__)
TEST(FoldTest, TheCallersFloatingPointModeDoesNotMatter) {
  const std::vector<float> values = specials(5000, 11);
  for (const Kernels& kernels : all_kernels()) {
    for (const Codec codec : kAllCodecs) {
      const std::vector<float> more = noise(5000, 2, 1e-41f);
      const auto data = [](const auto& v) { return reinterpret_cast<const std::byte*>(v.data()); };
      const std::vector<Source> sources = {{data(values), Codec::kFp32, 0.3f},
                                           {data(more), Codec::kFp32, 1}};
      const Buffer expected = fold(kernels, sources, codec, ncclFloat16, 5000);
      const unsigned saved = _mm_getcsr();
      const unsigned odd = 0x1f80 | 0x8040 | 0x4000;  // denormals flushed, rounding upwards
      _mm_setcsr(odd);
      const Buffer got = fold(kernels, sources, codec, ncclFloat16, 5000);
      const unsigned after = _mm_getcsr();
      _mm_setcsr(saved);
      EXPECT_TRUE(got == expected) << kernels.name << " " << name(codec);
      EXPECT_EQ(after & ~0x3fu, odd);
    }
  }
}
#endif

TEST(FoldTest, MisuseIsAnError) {
  Buffer sink(64);
  const Source source{sink.data(), Codec::kTensor, 1};
  EXPECT_THROW(reference().fold({}, {sink.data(), Codec::kTensor, false}, ncclFloat32, 1), Error);
  EXPECT_THROW(reference().fold({{source}}, {sink.data(), Codec::kTensor, false}, ncclInt32, 1),
               Error);
  reference().fold({{source}}, {nullptr, Codec::kQ4s, false}, ncclFloat32, 0);
}

}  // namespace
}  // namespace slimccl::quant::testing
