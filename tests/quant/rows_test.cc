// Every kernel row gives the bits of the scalar reference, whatever it folds and wherever that
// lies.
#include <gtest/gtest.h>

#include "quant/samples.h"

namespace slimccl::quant::testing {
namespace {

constexpr ncclDataType_t kTypes[] = {ncclFloat32, ncclBfloat16, ncclFloat16};
constexpr float kScales[] = {1, 0.125f, -1.0f / 3};

struct Inputs {
  std::vector<Buffer> buffers;
  std::vector<Source> sources;
};

// `count` sources, special blocks and all; plain ones start `offset` elements off alignment.
Inputs make_inputs(Codec codec, ncclDataType_t type, uint64_t elems, int count, uint64_t offset) {
  Inputs inputs;
  for (int k = 0; k < count; ++k) {
    const std::vector<float> values = specials(elems, static_cast<uint32_t>(elems + 7 * k));
    const uint64_t unit = codec == Codec::kTensor ? type_bytes(type)
                          : codec == Codec::kFp32 ? 4
                                                  : 2;
    const bool message = codec == Codec::kQ8 || codec == Codec::kQ4s;
    const auto* data = reinterpret_cast<const std::byte*>(values.data());
    inputs.buffers.push_back(fold(all_kernels().front(), {{data, Codec::kFp32, 1}}, codec, type,
                                  elems, message ? 0 : (offset + k) % 16 * unit));
    inputs.sources.push_back({inputs.buffers.back().data(), codec, kScales[(offset + k) % 3]});
  }
  return inputs;
}

void same_in_all_rows(const std::vector<Source>& sources, Codec to, ncclDataType_t type,
                      uint64_t elems, uint64_t offset) {
  const bool message = to == Codec::kQ8 || to == Codec::kQ4s;
  const uint64_t unit = encoded_bytes(to, type, 1);
  for (const int flags : {0, 1, 2, 3}) {
    const bool saturate = flags & 1, streaming = flags & 2;
    const Buffer expected = fold(all_kernels().front(), sources, to, type, elems, 0, saturate);
    for (const Kernels& kernels : all_kernels()) {
      const Buffer got =
          fold(kernels, sources, to, type, elems, message ? 0 : offset * unit, saturate, streaming);
      ASSERT_TRUE(got == expected)
          << kernels.name << ": " << sources.size() << " x " << name(sources[0].codec) << " to "
          << name(to) << " of " << type_name(type) << ", " << elems << " elements, offset "
          << offset << (saturate ? ", saturating" : "") << (streaming ? ", streaming" : "");
    }
  }
}

TEST(RowsTest, EveryCodecTypeAndSize) {
  uint64_t turn = 0;
  for (const Codec from : kAllCodecs) {
    for (const Codec to : kAllCodecs) {
      for (const ncclDataType_t type : kTypes) {
        for (const uint64_t elems : {1, 31, 33, 64, 100, 2047, 2048, 2049, 5000}) {
          const uint64_t offset = turn++ % 16;
          const Inputs inputs =
              make_inputs(from, type, elems, static_cast<int>(1 + turn % 3), offset);
          ASSERT_NO_FATAL_FAILURE(same_in_all_rows(inputs.sources, to, type, elems, offset));
        }
      }
    }
  }
}

TEST(RowsTest, EveryOffsetAndNumberOfSources) {
  for (const ncclDataType_t type : kTypes) {
    for (uint64_t offset = 0; offset < 16; ++offset) {
      for (int count = 1; count <= 8; ++count) {
        const Inputs inputs = make_inputs(Codec::kTensor, type, 2100, count, offset);
        ASSERT_NO_FATAL_FAILURE(
            same_in_all_rows(inputs.sources, Codec::kTensor, type, 2100, offset));
      }
    }
  }
  for (const Codec codec : {Codec::kQ8, Codec::kQ4s}) {
    for (int count = 1; count <= 8; ++count) {
      const Inputs inputs = make_inputs(codec, ncclFloat32, 2500, count, 0);
      ASSERT_NO_FATAL_FAILURE(same_in_all_rows(inputs.sources, codec, ncclFloat32, 2500, 0));
    }
  }
}

TEST(RowsTest, SourcesOfAllCodecsTogether) {
  for (const Codec to : kAllCodecs) {
    std::vector<Inputs> kept;
    std::vector<Source> sources;
    for (const Codec from : kAllCodecs) {
      kept.push_back(make_inputs(from, ncclBfloat16, 4444, 1, 3));
      sources.push_back(kept.back().sources[0]);
    }
    ASSERT_NO_FATAL_FAILURE(same_in_all_rows(sources, to, ncclBfloat16, 4444, 5));
  }
}

// Random bit patterns: every exponent, denormals and NaN included, meets every other.
TEST(RowsTest, AnyBits) {
  std::mt19937 generator(5);
  std::vector<float> a(65536), b(65536);
  for (float& value : a) value = float_of(static_cast<uint32_t>(generator()));
  for (float& value : b) value = float_of(static_cast<uint32_t>(generator()));
  const auto data = [](const std::vector<float>& v) {
    return reinterpret_cast<const std::byte*>(v.data());
  };
  for (const Codec to : kAllCodecs) {
    for (const ncclDataType_t type : kTypes) {
      ASSERT_NO_FATAL_FAILURE(same_in_all_rows(
          {{data(a), Codec::kFp32, 3}, {data(b), Codec::kFp32, 1}}, to, type, a.size(), 0));
    }
  }
}

// fp16's largest value becomes 127 * 516 in a q8 message, which fp16 rounds to infinity.
TEST(RowsTest, MessagesSaturateFp16Sinks) {
  constexpr uint64_t kElems = 2 * kSuperblock + 100;
  std::vector<float> values(kElems, 65504);
  for (uint64_t i = 0; i < kElems; i += 3) values[i] = -65504;
  const Buffer message = encode(all_kernels().front(), values, Codec::kQ8);
  for (const Kernels& kernels : all_kernels()) {
    for (const bool saturate : {true, false}) {
      const Buffer sink = fold(kernels, {{message.data(), Codec::kQ8, 1}}, Codec::kTensor,
                               ncclFloat16, kElems, 0, saturate);
      const int magnitude = saturate ? 0x7bff : 0x7c00;
      for (uint64_t i = 0; i < kElems; ++i) {
        ASSERT_EQ(sink.as<uint16_t>()[i], magnitude | (i % 3 == 0 ? 0x8000 : 0))
            << kernels.name << ", element " << i << (saturate ? ", saturating" : "");
      }
    }
  }
}

// A message without any NaN, folded last, does not hide that the sum has one.
TEST(RowsTest, NanOfAnEarlierSourceIsTheOneNan) {
  constexpr uint64_t kElems = kSuperblock + 100;
  const std::vector<float> nans(kElems, float_of(0xffc12345)), ones(kElems, 1);
  const auto* first = reinterpret_cast<const std::byte*>(nans.data());
  for (const Codec last : {Codec::kQ8, Codec::kQ4s}) {
    const Buffer message = encode(all_kernels().front(), ones, last);
    const std::vector<Source> sources = {{first, Codec::kFp32, 1}, {message.data(), last, 1}};
    for (const Kernels& kernels : all_kernels()) {
      for (const ncclDataType_t type : kTypes) {
        SCOPED_TRACE(::testing::Message()
                     << kernels.name << ", " << name(last) << " last, to " << type_name(type));
        const Buffer sink = fold(kernels, sources, Codec::kTensor, type, kElems);
        const Buffer expected = plain(std::vector<float>(kElems, kNan), type);
        ASSERT_TRUE(sink == expected);
      }
    }
  }
}

// Elements of two bytes are not all alike.
TEST(RowsTest, Bf16AndFp16AddUp) {
  constexpr uint64_t kElems = 2 * kSuperblock;
  const std::vector<float> ones(kElems, 1), twos(kElems, 2);
  const Buffer bf16 = plain(ones, ncclBfloat16), fp16 = plain(twos, ncclFloat16);
  const Source one{bf16.data(), Codec::kBf16, 1}, two{fp16.data(), Codec::kTensor, 1};
  const Buffer expected = plain(std::vector<float>(kElems, 4), ncclFloat32);
  for (const Kernels& kernels : all_kernels()) {
    for (const auto& sources : {std::vector{one, two, one}, std::vector{two, one, one}}) {
      const Buffer sink = fold(kernels, sources, Codec::kFp32, ncclFloat16, kElems);
      ASSERT_TRUE(sink == expected) << kernels.name << ", " << name(sources[0].codec) << " first";
    }
  }
}

TEST(RowsTest, TheReferenceComesFirst) {
  ASSERT_FALSE(all_kernels().empty());
  EXPECT_STREQ(all_kernels().front().name, "scalar");
  EXPECT_EQ(&best_kernels(), &all_kernels().back());
}

}  // namespace
}  // namespace slimccl::quant::testing
