// What quant/reduce.h says in words, with the numbers written out; and that it agrees with fold().
#include <gtest/gtest.h>

#include <climits>

#include "base/error.h"
#include "quant/fp8.h"
#include "quant/reduce.h"
#include "quant/samples.h"

namespace slimccl::quant::testing {
namespace {

constexpr ncclDataType_t kFolded[] = {ncclFloat32, ncclBfloat16, ncclFloat16};

template <class T>
const std::byte* bytes_of(const std::vector<T>& values) {
  return reinterpret_cast<const std::byte*>(values.data());
}

// Of plain tensors of equal length.
template <class T>
std::vector<T> reduced(const std::vector<std::vector<T>>& tensors, ncclDataType_t type,
                       Reduction op, uint64_t divisor = 1, const Scalar* scale = nullptr) {
  std::vector<ReduceSource> sources;
  sources.reserve(tensors.size());
  for (const auto& tensor : tensors) {
    sources.push_back({bytes_of(tensor), Codec::kTensor, scale != nullptr});
  }
  std::vector<T> result(tensors[0].size());
  reduce(sources, {reinterpret_cast<std::byte*>(result.data()), Codec::kTensor, divisor}, type, op,
         scale == nullptr ? Scalar{} : *scale, result.size());
  return result;
}

template <class T>
std::vector<uint64_t> patterns(const std::vector<T>& values) {
  std::vector<uint64_t> result;
  for (const T value : values) {
    result.push_back(0);
    std::memcpy(&result.back(), &value, sizeof(T));
  }
  return result;
}

void expect_bits_of_fold(ncclDataType_t type, uint32_t count, float scale) {
  constexpr uint64_t kElems = 5001;
  std::vector<Buffer> tensors;
  std::vector<Source> folded;
  std::vector<ReduceSource> sources;
  for (uint32_t k = 0; k < count; ++k) {
    const bool scaled = k != 1, wide = k == 2;
    tensors.push_back(plain(specials(kElems, count * 8 + k), wide ? ncclFloat32 : type, 4));
    const std::byte* data = tensors.back().data();
    const Codec codec = wide ? Codec::kFp32 : Codec::kTensor;
    folded.push_back({data, codec, scaled ? scale : 1.0f});
    sources.push_back({data, codec, scaled});
  }
  for (const Codec to : {Codec::kTensor, Codec::kFp32}) {
    const Buffer expected = fold(best_kernels(), folded, to, type, kElems);
    const Buffer got(encoded_bytes(to, type, kElems));
    reduce(sources, {got.data(), to}, type, Reduction::kSum, {scale, 7, 7}, kElems);
    EXPECT_TRUE(got == expected) << type_name(type) << " " << count << " " << scale;
  }
}

TEST(ReduceLaws, SumsHaveTheBitsOfFold) {
  for (const ncclDataType_t type : kFolded) {
    for (uint32_t count = 1; count <= 5; ++count) {
      for (const float scale : {1.0f, 0.3f}) expect_bits_of_fold(type, count, scale);
    }
  }
}

TEST(ReduceLaws, ThereIsOneNanAndItSurvives) {
  const auto nan = [](uint32_t pattern) { return float_of(pattern); };
  const std::vector<float> a = {nan(0xffc12345), 1, nan(0x7f800001), kInf, -kInf, nan(0xff800001)};
  const std::vector<float> b = {5, nan(0xffffffff), kInf, nan(0x7fc54321), nan(0xffc00001), -kInf};
  const std::vector<double> wide_a(a.begin(), a.end()), wide_b(b.begin(), b.end());
  for (const Reduction op : {Reduction::kSum, Reduction::kProd, Reduction::kMax, Reduction::kMin}) {
    for (const bool swapped : {false, true}) {
      const auto got = reduced<float>({swapped ? b : a, swapped ? a : b}, ncclFloat32, op);
      EXPECT_EQ(patterns(got), std::vector<uint64_t>(6, 0x7fc00000)) << name(op);
      const auto got_wide =
          reduced<double>({swapped ? wide_b : wide_a, swapped ? wide_a : wide_b}, ncclFloat64, op);
      EXPECT_EQ(patterns(got_wide), std::vector<uint64_t>(6, 0x7ff8000000000000)) << name(op);
    }
  }
}

TEST(ReduceLaws, InfinitiesZerosAndDenormalsAreOrdered) {
  const std::vector<float> a = {-0.0f, 0.0f, -0.0f, kInf, -kInf, 1e-45f, -1e-45f, -1e-44f};
  const std::vector<float> b = {0.0f, -0.0f, -0.0f, kMax, -kMax, 0.0f, 0.0f, -1e-45f};
  const std::vector<float> most = {0.0f, 0.0f, -0.0f, kInf, -kMax, 1e-45f, 0.0f, -1e-45f};
  const std::vector<float> least = {-0.0f, -0.0f, -0.0f, kMax, -kInf, 0.0f, -1e-45f, -1e-44f};
  EXPECT_EQ(patterns(reduced<float>({a, b}, ncclFloat32, Reduction::kMax)), patterns(most));
  EXPECT_EQ(patterns(reduced<float>({b, a}, ncclFloat32, Reduction::kMax)), patterns(most));
  EXPECT_EQ(patterns(reduced<float>({a, b}, ncclFloat32, Reduction::kMin)), patterns(least));
  EXPECT_EQ(patterns(reduced<float>({b, a}, ncclFloat32, Reduction::kMin)), patterns(least));
}

TEST(ReduceLaws, ACopyKeepsEveryBit) {
  const std::vector<float> values = specials(3000, 3);
  const Scalar one;
  for (const Scalar* scale : {static_cast<const Scalar*>(nullptr), &one}) {
    EXPECT_EQ(patterns(reduced<float>({values}, ncclFloat32, Reduction::kMax, 3, scale)),
              patterns(values));
  }
  const std::vector<uint8_t> nans = {0x7f, 0xff, 0x80};
  EXPECT_EQ(reduced<uint8_t>({nans}, ncclFloat8e4m3, Reduction::kSum), nans);
}

TEST(ReduceLaws, IntegersWrapAround) {
  const Reduction sum = Reduction::kSum, prod = Reduction::kProd;
  EXPECT_EQ(reduced<int8_t>({{127, -128}, {1, -1}}, ncclInt8, sum),
            (std::vector<int8_t>{-128, 127}));
  EXPECT_EQ(reduced<int32_t>({{INT_MAX, INT_MIN}, {1, -1}}, ncclInt32, sum),
            (std::vector<int32_t>{INT_MIN, INT_MAX}));
  EXPECT_EQ(reduced<int32_t>({{INT_MIN, 65536}, {-1, 65537}}, ncclInt32, prod),
            (std::vector<int32_t>{INT_MIN, 65536}));
  EXPECT_EQ(reduced<int64_t>({{INT64_MIN}, {-1}}, ncclInt64, prod),
            (std::vector<int64_t>{INT64_MIN}));
  EXPECT_EQ(reduced<uint64_t>({{UINT64_MAX}, {2}}, ncclUint64, sum), (std::vector<uint64_t>{1}));
  const Scalar minus_three{1, 1, static_cast<uint64_t>(-3)};
  EXPECT_EQ(reduced<int8_t>({{100}, {2}}, ncclInt8, sum, 1, &minus_three),
            (std::vector<int8_t>{static_cast<int8_t>(-306 + 256)}));
}

TEST(ReduceLaws, AveragesOfIntegersAreTruncatedTowardZero) {
  const Reduction sum = Reduction::kSum;
  EXPECT_EQ(reduced<int32_t>({{7, -7, INT_MIN, -1, INT_MAX}}, ncclInt32, sum, 2),
            (std::vector<int32_t>{3, -3, INT_MIN / 2, 0, INT_MAX / 2}));
  EXPECT_EQ(reduced<int8_t>({{-128, -127, 100}, {0, 0, 27}}, ncclInt8, sum, 3),
            (std::vector<int8_t>{-42, -42, 42}));
  EXPECT_EQ(reduced<int8_t>({{-128, 127}}, ncclInt8, sum, 200), (std::vector<int8_t>{0, 0}));
  EXPECT_EQ(reduced<uint8_t>({{255, 200}}, ncclUint8, sum, 2), (std::vector<uint8_t>{127, 100}));
  EXPECT_EQ(
      reduced<uint32_t>({{UINT_MAX, UINT_MAX - 1, UINT_MAX}, {0, 0, 0}}, ncclUint32, sum, UINT_MAX),
      (std::vector<uint32_t>{1, 0, 1}));
  EXPECT_EQ(reduced<int64_t>({{INT64_MIN, -5, INT64_MAX}}, ncclInt64, sum, 3),
            (std::vector<int64_t>{INT64_MIN / 3, -1, INT64_MAX / 3}));
  EXPECT_EQ(reduced<int64_t>({{INT64_MIN, INT64_MAX}}, ncclInt64, sum, 1ull << 63),
            (std::vector<int64_t>{-1, 0}));
  EXPECT_EQ(reduced<uint64_t>({{UINT64_MAX, 1}}, ncclUint64, sum, UINT64_MAX),
            (std::vector<uint64_t>{1, 0}));
  // The sum wraps around before it is divided, as NCCL's does.
  EXPECT_EQ(reduced<uint8_t>({{200}, {100}}, ncclUint8, sum, 2), (std::vector<uint8_t>{22}));
}

TEST(ReduceLaws, FloatsIgnoreTheDivisor) {
  EXPECT_EQ(reduced<float>({{3}, {4}}, ncclFloat32, Reduction::kSum, 7), (std::vector<float>{7}));
  EXPECT_EQ(reduced<double>({{3}, {4}}, ncclFloat64, Reduction::kSum, 0), (std::vector<double>{7}));
}

TEST(ReduceLaws, OverflowOfNarrowFloatsStaysVisible) {
  const std::vector<uint8_t> e4m3 = {0x7e, 0xfe, 0x7e}, e4m3_more = {0x7e, 0xfe, 0x40};  // 448, 2
  EXPECT_EQ(reduced<uint8_t>({e4m3, e4m3_more}, ncclFloat8e4m3, Reduction::kSum),
            (std::vector<uint8_t>{0x7f, 0x7f, 0x7e}));
  const std::vector<uint8_t> e5m2 = {0x7b, 0xfb, 0x7b}, e5m2_more = {0x7b, 0xfb, 0x40};
  EXPECT_EQ(reduced<uint8_t>({e5m2, e5m2_more}, ncclFloat8e5m2, Reduction::kSum),
            (std::vector<uint8_t>{0x7c, 0xfc, 0x7b}));
  // In between there is room: 448 + 448 - 448.
  EXPECT_EQ(reduced<uint8_t>({e4m3, e4m3, {0xfe, 0x7e, 0xfe}}, ncclFloat8e4m3, Reduction::kSum),
            (std::vector<uint8_t>{0x7e, 0xfe, 0x7e}));
}

TEST(ReduceLaws, PartialSumsTravelWithoutRounding) {
  constexpr uint64_t kElems = 4096;
  for (int number = 0; number < ncclNumTypes; ++number) {
    const auto type = static_cast<ncclDataType_t>(number);
    const Codec wide = wide_codec(type);
    EXPECT_EQ(wide, number <= ncclUint64 || type == ncclFloat64 ? Codec::kTensor : Codec::kFp32);
    std::vector<Buffer> tensors;
    std::vector<ReduceSource> sources;
    for (uint32_t k = 0; k < 3; ++k) {
      const Buffer& tensor = tensors.emplace_back(kElems * type_bytes(type));
      std::mt19937 generator(k);
      for (uint64_t i = 0; i < tensor.bytes(); ++i) {
        tensor.data()[i] = static_cast<std::byte>(generator());
      }
      sources.push_back({tensor.data(), Codec::kTensor, false});
    }
    const Buffer at_once(kElems * type_bytes(type)), later(kElems * type_bytes(type));
    const Buffer partial(encoded_bytes(wide, type, kElems));
    reduce(sources, {at_once.data(), Codec::kTensor}, type, Reduction::kSum, {}, kElems);
    reduce({sources.data(), 2}, {partial.data(), wide}, type, Reduction::kSum, {}, kElems);
    const ReduceSource rest[] = {{partial.data(), wide, false}, sources[2]};
    reduce(rest, {later.data(), Codec::kTensor}, type, Reduction::kSum, {}, kElems);
    EXPECT_TRUE(at_once == later) << type_name(type);
  }
}

// At an odd address.
template <class T>
Scalar scalar_of(T value, ncclDataType_t type) {
  alignas(8) std::byte memory[16];
  std::memcpy(memory + 1, &value, sizeof(T));
  return read_scalar(memory + 1, type);
}

TEST(ReduceLaws, ScalarsAreReadInTheirTypesAccumulator) {
  const auto integer = [](int64_t value) { return Scalar{1, 1, static_cast<uint64_t>(value)}; };
  const auto real = [](float value) { return Scalar{value, 1, 1}; };
  EXPECT_EQ(scalar_of<int8_t>(-3, ncclInt8), integer(-3));
  EXPECT_EQ(scalar_of<uint8_t>(253, ncclUint8), integer(253));
  EXPECT_EQ(scalar_of<int32_t>(INT_MIN, ncclInt32), integer(INT_MIN));
  EXPECT_EQ(scalar_of<uint32_t>(UINT_MAX, ncclUint32), integer(UINT_MAX));
  EXPECT_EQ(scalar_of<int64_t>(INT64_MIN, ncclInt64), integer(INT64_MIN));
  EXPECT_EQ(scalar_of<uint64_t>(UINT64_MAX, ncclUint64), integer(-1));
  EXPECT_EQ(scalar_of<uint16_t>(float_to_fp16(0.1f), ncclFloat16), real(0x1.998p-4f));
  EXPECT_EQ(scalar_of<uint16_t>(0xbf80, ncclBfloat16), real(-1));
  EXPECT_EQ(scalar_of<uint8_t>(0x01, ncclFloat8e4m3), real(0x1p-9f));
  EXPECT_EQ(scalar_of<uint8_t>(0xfc, ncclFloat8e5m2), real(-kInf));
  EXPECT_EQ(scalar_of<float>(0.1f, ncclFloat32), real(0.1f));
  EXPECT_EQ(scalar_of<double>(0.1, ncclFloat64), (Scalar{1, 0.1, 1}));
  EXPECT_EQ(reciprocal(3), (Scalar{1.0f / 3, 1.0 / 3, 1}));
  EXPECT_EQ(reciprocal(1), Scalar{});
}

TEST(ReduceLaws, MisuseIsAnError) {
  const Buffer memory(64);
  const ReduceSource source{memory.data(), Codec::kTensor, false};
  const ReduceSource wide{memory.data(), Codec::kFp32, false};
  const ReduceSource message{memory.data(), Codec::kQ8, false};
  const auto run = [&](std::vector<ReduceSource> sources, ncclDataType_t type, uint64_t divisor) {
    reduce(sources, {memory.data(), Codec::kTensor, divisor}, type, Reduction::kSum, {}, 1);
  };
  EXPECT_THROW(run({}, ncclFloat32, 1), Error);
  EXPECT_THROW(run({source}, ncclInt32, 0), Error);
  EXPECT_THROW(run({source, wide}, ncclInt32, 1), Error);
  EXPECT_THROW(run({source, wide}, ncclFloat64, 1), Error);
  EXPECT_THROW(run({source, message}, ncclFloat32, 1), Error);
  EXPECT_THROW(run({source, source}, ncclNumTypes, 1), Error);
  EXPECT_THROW((void)read_scalar(memory.data(), ncclNumTypes), Error);
  EXPECT_THROW((void)wide_codec(ncclNumTypes), Error);
  run({source, wide}, ncclFloat8e5m2, 1);
  reduce({{source}}, {nullptr, Codec::kTensor}, ncclInt8, Reduction::kSum, {}, 0);
}

TEST(ReduceLaws, OperationsHaveNames) {
  EXPECT_EQ(name(Reduction::kSum), "sum");
  EXPECT_EQ(name(Reduction::kProd), "prod");
  EXPECT_EQ(name(Reduction::kMax), "max");
  EXPECT_EQ(name(Reduction::kMin), "min");
}

}  // namespace
}  // namespace slimccl::quant::testing
