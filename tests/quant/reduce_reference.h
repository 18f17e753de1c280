// What quant/reduce.h promises, one element after the other and in wider arithmetic: __int128 for
// integers, fp64 for floats up to fp32 (whose sums and products it rounds to fp32 as one step
// would).
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "quant/reduce.h"
#include "quant/samples.h"
#include "quant/textbook.h"

namespace slimccl::quant::testing {

inline bool is_wide(Codec codec) { return codec == Codec::kFp32; }
inline bool is_integral(ncclDataType_t type) { return type <= ncclUint64; }

// --- integers ---

inline bool is_signed(ncclDataType_t type) {
  return type == ncclInt8 || type == ncclInt32 || type == ncclInt64;
}

// The value that the low bits of `number` have in `type`.
inline __int128 wrapped(__int128 number, ncclDataType_t type) {
  const auto one = static_cast<__int128>(1);
  const auto bits = static_cast<int>(type_bytes(type) * 8);
  __int128 low = number & ((one << bits) - 1);
  if (is_signed(type) && (low >> (bits - 1) & 1) != 0) low -= one << bits;
  return low;
}

inline __int128 integer_at(const std::byte* data, ncclDataType_t type, uint64_t i) {
  uint64_t bits = 0;
  std::memcpy(&bits, data + i * type_bytes(type), type_bytes(type));
  return wrapped(static_cast<__int128>(bits), type);
}

inline __int128 apply_integer(Reduction op, __int128 a, __int128 b, ncclDataType_t type) {
  switch (op) {
    case Reduction::kSum:
      return wrapped(a + b, type);
    case Reduction::kProd: {
      const auto product = static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b);
      return wrapped(static_cast<__int128>(product), type);
    }
    case Reduction::kMax:
      return a > b ? a : b;
    case Reduction::kMin:
      return a > b ? b : a;
  }
  return 0;
}

// --- floats, values in fp64 ---

inline double one_step(double exact, ncclDataType_t type) {
  return type == ncclFloat64 ? exact : static_cast<double>(static_cast<float>(exact));
}

inline double float_at(const ReduceSource& source, ncclDataType_t type, uint64_t i) {
  if (type == ncclFloat64) {
    double value;
    std::memcpy(&value, source.data + i * 8, 8);
    return value;
  }
  const Textbook& book = is_wide(source.codec) ? kFp32Book : *textbook(type);
  const auto bytes = static_cast<size_t>(book.bits / 8);
  uint32_t code = 0;
  std::memcpy(&code, source.data + i * bytes, bytes);
  return book.value(code);
}

inline double apply_float(Reduction op, double a, double b, ncclDataType_t type) {
  if (op == Reduction::kSum) return one_step(a + b, type);
  if (op == Reduction::kProd) return one_step(a * b, type);
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  const bool a_is_less = a < b || (a == b && std::signbit(a));
  return a_is_less == (op == Reduction::kMin) ? a : b;
}

inline void write_float(double value, const ReduceSink& sink, ncclDataType_t type, uint64_t i) {
  if (type == ncclFloat64) {
    uint64_t bits = 0x7ff8000000000000;
    if (!std::isnan(value)) std::memcpy(&bits, &value, 8);
    std::memcpy(sink.data + i * 8, &bits, 8);
    return;
  }
  const Textbook& book = is_wide(sink.codec) ? kFp32Book : *textbook(type);
  const auto bytes = static_cast<size_t>(book.bits / 8);
  const uint32_t code = book.nearest(value);
  std::memcpy(sink.data + i * bytes, &code, bytes);
}

inline __int128 reduced_integer(const std::vector<ReduceSource>& sources, ncclDataType_t type,
                                Reduction op, const Scalar& scale, uint64_t i) {
  __int128 result = 0;
  for (size_t k = 0; k < sources.size(); ++k) {
    __int128 x = integer_at(sources[k].data, type, i);
    if (sources[k].scaled) x = apply_integer(Reduction::kProd, x, scale.integer, type);
    result = k == 0 ? x : apply_integer(op, result, x, type);
  }
  return result;
}

inline double reduced_float(const std::vector<ReduceSource>& sources, ncclDataType_t type,
                            Reduction op, const Scalar& scale, uint64_t i) {
  const double factor = type == ncclFloat64 ? scale.f64 : static_cast<double>(scale.f32);
  double result = 0;
  for (size_t k = 0; k < sources.size(); ++k) {
    double x = float_at(sources[k], type, i);
    if (sources[k].scaled) x = one_step(x * factor, type);
    result = k == 0 ? x : apply_float(op, result, x, type);
  }
  return result;
}

// The scale may not be exactly 1: then a single source could be a mere copy.
inline void reference_reduce(const std::vector<ReduceSource>& sources, const ReduceSink& sink,
                             ncclDataType_t type, Reduction op, const Scalar& scale,
                             uint64_t elems) {
  const bool integral = is_integral(type);
  const auto divisor = static_cast<__int128>(integral ? sink.divisor : 1);
  const bool same_form = sources[0].codec == sink.codec || type == ncclFloat32;
  if (sources.size() == 1 && same_form && !sources[0].scaled && divisor == 1) {
    std::memcpy(sink.data, sources[0].data, encoded_bytes(sink.codec, type, elems));
    return;
  }
  for (uint64_t i = 0; i < elems; ++i) {
    if (integral) {
      const __int128 value = reduced_integer(sources, type, op, scale, i) / divisor;
      std::memcpy(sink.data + i * type_bytes(type), &value, type_bytes(type));
    } else {
      write_float(reduced_float(sources, type, op, scale, i), sink, type, i);
    }
  }
}

}  // namespace slimccl::quant::testing
