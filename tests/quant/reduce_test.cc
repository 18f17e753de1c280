// reduce() against the plain reference of reduce_reference.h: every type and operation, over
// shapes, alignments, codecs, scales and values of all kinds.
#include "quant/reduce.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <tuple>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "quant/pages.h"
#include "quant/reduce_reference.h"

namespace slimccl::quant::testing {
namespace {

constexpr Reduction kOperations[] = {Reduction::kSum, Reduction::kProd, Reduction::kMax,
                                     Reduction::kMin};

// One call and everything it reads and writes.
struct Call {
  ncclDataType_t type;
  Reduction op;
  uint64_t elems;
  std::mt19937& generator;
  std::vector<Buffer> buffers;
  std::vector<ReduceSource> sources;
  Scalar scale;
  uint64_t divisor = 1;
  Codec to = Codec::kTensor;

  uint32_t any(uint32_t below) { return static_cast<uint32_t>(generator() % below); }
  Codec any_codec() { return any(2) == 0 ? Codec::kTensor : wide_codec(type); }

  // Codes of all kinds: any bits, small values whose results do not overflow, and extremes.
  uint64_t any_code(Codec codec) {
    const uint64_t random = uint64_t{generator()} << 32 | generator();
    const uint32_t kind = any(4);
    if (is_integral(type)) {
      constexpr uint64_t kExtremes[] = {
          0, 1, ~0ull, 1ull << 63, (1ull << 63) - 1, 0x8080808080808080};
      const auto shift = 64 - type_bytes(type) * 8;
      if (kind == 0) return kExtremes[any(6)] >> (any(2) == 0 ? shift : 0);
      return kind == 1 ? random % 21 - 10 : random;
    }
    if (type == ncclFloat64) {
      constexpr uint64_t kExtremes[] = {0,
                                        1ull << 63,
                                        1,
                                        0x7ff0000000000000,
                                        0xfff0000000000000,
                                        0x7ff0000000000001,
                                        0xfff8000000000001,
                                        0x7fefffffffffffff};
      if (kind == 0) return kExtremes[any(8)];
      if (kind == 1) return random;
      return __builtin_bit_cast(uint64_t, static_cast<double>(random % 2001) / 256 - 4);
    }
    const Textbook& book = is_wide(codec) ? kFp32Book : *textbook(type);
    const uint32_t extremes[] = {0, 1, 2, book.beyond - 1, book.beyond, book.nan, book.nan - 1, 3};
    const uint32_t sign = any(2) * book.sign_bit();
    if (kind == 0) return extremes[any(8)] | sign;
    if (kind == 1) return random & (book.sign_bit() | (book.sign_bit() - 1));
    return book.nearest(static_cast<double>(random % 2001) / 256 - 4);
  }

  Buffer any_elements(Codec codec, uint64_t offset) {
    const uint64_t bytes = encoded_bytes(codec, type, 1);
    Buffer buffer(elems * bytes, offset);
    for (uint64_t i = 0; i < elems; ++i) {
      const uint64_t code = any_code(codec);
      std::memcpy(buffer.data() + i * bytes, &code, bytes);
    }
    return buffer;
  }

  void add_source(Codec codec, bool scaled, uint64_t offset) {
    buffers.push_back(any_elements(codec, offset));
    sources.push_back({buffers.back().data(), codec, scaled});
  }
  void choose_factors() {
    constexpr float kScales[] = {0.3f, -2.7f, 0, 1e-30f, kInf, kNan, 1e30f, 0.5f};
    scale = {kScales[any(8)], 0, uint64_t{generator()} << 32 | generator()};
    scale.f64 = static_cast<double>(scale.f32) * 1.1;
    divisor = any(2) == 0 ? 1 : 1 + any(300);
  }
  uint64_t sink_bytes() const { return encoded_bytes(to, type, elems); }
  Buffer expected() const {
    Buffer sink(sink_bytes());
    reference_reduce(sources, {sink.data(), to, divisor}, type, op, scale, elems);
    return sink;
  }
  void run(std::byte* into) const { reduce(sources, {into, to, divisor}, type, op, scale, elems); }
  std::string text() const {
    std::string result = std::to_string(elems) + " elements to " + std::string(name(to)) + " / " +
                         std::to_string(divisor) + " scale " + std::to_string(scale.f32) + " of";
    for (const ReduceSource& source : sources) {
      result.append(source.scaled ? " scaled " : " ").append(name(source.codec));
    }
    return result;
  }
};

void expect_same(const std::byte* got, const Buffer& expected, const Call& call) {
  const uint64_t bytes = encoded_bytes(call.to, call.type, 1);
  for (uint64_t i = 0; i < call.elems; ++i) {
    ASSERT_EQ(std::memcmp(got + i * bytes, expected.data() + i * bytes, bytes), 0)
        << "element " << i << " of " << call.text();
  }
}

class ReduceTest : public ::testing::TestWithParam<std::tuple<int, Reduction>> {
 protected:
  Call new_call(uint64_t elems) {
    const auto [type, op] = GetParam();
    return {static_cast<ncclDataType_t>(type), op, elems, generator_, {}, {}, {}};
  }

 private:
  std::mt19937 generator_{7};
};

TEST_P(ReduceTest, GivesTheReferencesBits) {
  for (const uint64_t elems : {0, 1, 2, 3, 31, 256, 257, 511, 513, 1025, 2047, 2049}) {
    for (int count = 1; count <= 5; ++count) {
      Call call = new_call(elems);
      call.choose_factors();
      for (int k = 0; k < count; ++k) {
        call.add_source(call.any_codec(), call.any(3) == 0, call.any(16));
      }
      call.to = call.any_codec();
      const Pages sink(call.sink_bytes(), call.any(16), call.any(2) == 0, 1);
      call.run(sink.data());
      ASSERT_NO_FATAL_FAILURE(expect_same(sink.data(), call.expected(), call));
      ASSERT_TRUE(sink.rest_is_untouched()) << call.text();
    }
  }
}

TEST_P(ReduceTest, AnyAlignmentWillDo) {
  for (uint64_t source = 0; source < 16; ++source) {
    for (uint64_t sink = 0; sink < 16; ++sink) {
      Call call = new_call(67);
      call.add_source(call.any_codec(), false, source);
      call.add_source(call.any_codec(), false, 15 - source);
      const Buffer got(call.sink_bytes(), sink);
      call.run(got.data());
      ASSERT_NO_FATAL_FAILURE(expect_same(got.data(), call.expected(), call));
    }
  }
}

TEST_P(ReduceTest, TheSinkMayBeAnySource) {
  for (int count = 1; count <= 4; ++count) {
    for (int same = 0; same < count; ++same) {
      for (const bool scaled : {false, true}) {
        for (const bool wide : {false, true}) {
          Call call = new_call(scaled ? 2100 : 600);
          call.choose_factors();
          call.to = wide ? wide_codec(call.type) : Codec::kTensor;
          for (int k = 0; k < count; ++k) call.add_source(call.to, scaled, call.any(16));
          const Buffer expected = call.expected();
          call.run(call.buffers[same].data());
          ASSERT_NO_FATAL_FAILURE(expect_same(call.buffers[same].data(), expected, call))
              << "in place of " << same;
        }
      }
    }
  }
}

TEST_P(ReduceTest, OneBufferMayBeEverySourceAndTheSink) {
  Call call = new_call(1000);
  call.add_source(Codec::kTensor, false, 3);
  call.sources.resize(3, call.sources[0]);
  const Buffer expected = call.expected();
  call.run(call.buffers[0].data());
  expect_same(call.buffers[0].data(), expected, call);
}

#if defined(__x86_64__)
TEST_P(ReduceTest, TheCallersFloatingPointModeDoesNotMatter) {
  for (int round = 0; round < 4; ++round) {
    Call call = new_call(3000);
    call.scale = {0.3f, 0.3, 3};
    call.divisor = round % 2 == 0 ? 1 : 7;
    for (int k = 0; k < 3; ++k) call.add_source(call.any_codec(), round % 2 == 0, 0);
    call.to = call.any_codec();
    const Buffer expected = call.expected(), got(call.sink_bytes());
    const unsigned saved = _mm_getcsr();
    const unsigned odd = 0x1f80 | 0x8040 | 0x4000;  // denormals flushed, rounding upwards
    _mm_setcsr(odd);
    call.run(got.data());
    const unsigned after = _mm_getcsr();
    _mm_setcsr(saved);
    EXPECT_EQ(after & ~0x3fu, odd);
    ASSERT_NO_FATAL_FAILURE(expect_same(got.data(), expected, call));
  }
}
#endif

std::string name_of(const ::testing::TestParamInfo<std::tuple<int, Reduction>>& param) {
  const auto type = static_cast<ncclDataType_t>(std::get<0>(param.param));
  return std::string(type_name(type)) + "_" + std::string(name(std::get<1>(param.param)));
}

INSTANTIATE_TEST_SUITE_P(All, ReduceTest,
                         ::testing::Combine(::testing::Range(0, static_cast<int>(ncclNumTypes)),
                                            ::testing::ValuesIn(kOperations)),
                         name_of);

}  // namespace
}  // namespace slimccl::quant::testing
