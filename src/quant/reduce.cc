#include "quant/reduce.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/error.h"
#include "quant/fp8.h"
#include "quant/half.h"
#include "quant/kernels.h"
#include "quant/layout.h"
#include "quant/standard_arithmetic.h"

namespace slimccl::quant {
namespace {

// Elements that are worked on at a time: what is kept of them stays in the first-level cache. More
// than 2 KiB make memcpy go past it with its slower string instructions; the rows of the kernel
// table, which convert halves, take no less than a superblock without loss.
template <class T>
constexpr uint64_t kBlock = 2048 / sizeof(T);
constexpr uint64_t kHalfBlock = kSuperblock;

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

// As bits, in which NaN and signs can be picked apart, or for arithmetic that may wrap around.
template <class T>
using Unsigned = std::conditional_t<sizeof(T) == 8, uint64_t,
                                    std::conditional_t<sizeof(T) == 4, uint32_t, uint8_t>>;

template <class T>
Unsigned<T> raw(T value) {
  return __builtin_bit_cast(Unsigned<T>, value);
}

template <class T>
T product(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    return a * b;
  } else {
    return static_cast<T>(static_cast<Unsigned<T>>(a) * static_cast<Unsigned<T>>(b));
  }
}

template <class T>
T sum(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    return a + b;
  } else {
    return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
  }
}

template <class T>
T minimum(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    // The two choices differ only for a NaN and a number, or for two zeros; then their common bits
    // are a NaN, or -0 if one of them is.
    const T one = a < b ? a : b, other = b < a ? b : a;
    return __builtin_bit_cast(T, raw(one) | raw(other));
  } else {
    return a < b ? a : b;
  }
}

template <class T>
T maximum(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    return -minimum(-a, -b);
  } else {
    return a > b ? a : b;
  }
}

// `into` may be the memory of `left`.
template <class T>
using Combine = void(const std::byte* left, const std::byte* right, T* into, uint64_t elems);

template <class T, T operation(T, T)>
void combine(const std::byte* left, const std::byte* right, T* into, uint64_t elems) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC ivdep  // what overlaps has the same index
#endif
  for (uint64_t i = 0; i < elems; ++i) {
    into[i] = operation(load<T>(left + i * sizeof(T)), load<T>(right + i * sizeof(T)));
  }
}

template <class T>
Combine<T>* combine_of(Reduction op) {
  switch (op) {
    case Reduction::kSum:
      return combine<T, sum<T>>;
    case Reduction::kProd:
      return combine<T, product<T>>;
    case Reduction::kMax:
      return combine<T, maximum<T>>;
    case Reduction::kMin:
      return combine<T, minimum<T>>;
  }
  throw Error(ncclInternalError, concat("reduction ", static_cast<int>(op)));
}

template <class T>
void multiply(T* values, T by, uint64_t elems) {
  for (uint64_t i = 0; i < elems; ++i) values[i] = product(values[i], by);
}

// `by` is 1 for floats.
template <class T>
void divide(T* values, uint64_t by, uint64_t elems) {
  if constexpr (std::is_integral_v<T> && sizeof(T) == 8) {
    for (uint64_t i = 0; i < elems; ++i) {
      const bool negative = values[i] < 0;
      const uint64_t bits = raw(values[i]), quotient = (negative ? 0 - bits : bits) / by;
      values[i] = static_cast<T>(negative ? 0 - quotient : quotient);
    }
  } else if constexpr (std::is_integral_v<T>) {
    // A quotient of 32-bit integers is an integer, or at least 2^-32 of its value away from the
    // next: too far for an fp64 division to round it there.
    const auto divisor = static_cast<double>(by);
    for (uint64_t i = 0; i < elems; ++i) {
      values[i] = static_cast<T>(static_cast<double>(values[i]) / divisor);
    }
  }
}

// How elements lie in memory, how many of them to take at a time, and how they become accumulators
// and are made of them.
template <class T>
struct Format {
  uint64_t bytes, block;
  void (*decode)(const std::byte* from, T* into, uint64_t elems);  // null: they are accumulators
  void (*encode)(const T* from, std::byte* into, uint64_t elems);
};

template <class T>
void encode_same(const T* __restrict from, std::byte* __restrict into, uint64_t elems) {
  std::memcpy(into, from, elems * sizeof(T));
}

template <class T>
void encode_canonical(const T* __restrict from, std::byte* __restrict into, uint64_t elems) {
  constexpr T kNan = std::numeric_limits<T>::quiet_NaN();
  for (uint64_t i = 0; i < elems; ++i) {
    const T value = from[i] == from[i] ? from[i] : kNan;
    std::memcpy(into + i * sizeof(T), &value, sizeof(T));
  }
}

// fp16 and bf16 are converted by the rows of the kernel table, which know the CPU's instructions.
template <ncclDataType_t type>
void decode_half(const std::byte* from, float* into, uint64_t elems) {
  const Source source{from, Codec::kTensor, 1};
  const Sink sink{reinterpret_cast<std::byte*>(into), Codec::kFp32, false};
  best_kernels().row(&source, 1, sink, type, elems);
}

template <ncclDataType_t type>
void encode_half(const float* from, std::byte* into, uint64_t elems) {
  const Source source{reinterpret_cast<const std::byte*>(from), Codec::kFp32, 1};
  best_kernels().row(&source, 1, {into, Codec::kTensor, false}, type, elems);
}

template <float to_float(uint8_t)>
void decode_fp8(const std::byte* __restrict from, float* __restrict into, uint64_t elems) {
  for (uint64_t i = 0; i < elems; ++i) into[i] = to_float(load<uint8_t>(from + i));
}

template <uint8_t from_float(float)>
void encode_fp8(const float* __restrict from, std::byte* __restrict into, uint64_t elems) {
  for (uint64_t i = 0; i < elems; ++i) into[i] = std::byte{from_float(from[i])};
}

constexpr Format<float> kFp32Format = {4, kBlock<float>, nullptr, encode_canonical<float>};
constexpr Format<double> kFp64Format = {8, kBlock<double>, nullptr, encode_canonical<double>};
template <class T>
constexpr Format<T> kIntegerFormat = {sizeof(T), kBlock<T>, nullptr, encode_same<T>};
template <ncclDataType_t type>
constexpr Format<float> kHalfFormat = {2, kHalfBlock, decode_half<type>, encode_half<type>};
template <float to_float(uint8_t), uint8_t from_float(float)>
constexpr Format<float> kFp8Format = {1, kBlock<float>, decode_fp8<to_float>,
                                      encode_fp8<from_float>};

struct Work {
  std::span<const ReduceSource> sources;
  const ReduceSink& sink;
  Reduction op;
  uint64_t divisor, elems;
};

// The accumulators of one source: its own memory, or `room` if they have to be made.
template <class T>
const std::byte* accumulators(const std::byte* from, const Format<T>& format, const T* multiplier,
                              T* room, uint64_t elems) {
  if (format.decode == nullptr && multiplier == nullptr) return from;
  if (format.decode != nullptr) {
    format.decode(from, room, elems);
  } else {
    std::memcpy(room, from, elems * sizeof(T));
  }
  if (multiplier != nullptr) multiply(room, *multiplier, elems);
  return reinterpret_cast<const std::byte*>(room);
}

template <class T>
void reduce_with(const Work& work, const Format<T>& tensor, const Format<T>& wide, T multiplier) {
  const auto format_of = [&](Codec codec) { return codec == Codec::kTensor ? tensor : wide; };
  const Format<T> to = format_of(work.sink.codec);
  Combine<T>* const combine_with = combine_of<T>(work.op);
  constexpr uint64_t kMost = std::is_same_v<T, float> ? kHalfBlock : kBlock<T>;
  alignas(64) T result[kMost], term[kMost];
  const auto* result_bytes = reinterpret_cast<const std::byte*>(result);
  for (uint64_t first = 0; first < work.elems; first += tensor.block) {
    const uint64_t elems = std::min(tensor.block, work.elems - first);
    const std::byte* so_far = nullptr;
    for (const ReduceSource& source : work.sources) {
      const Format<T> format = format_of(source.codec);
      const std::byte* next =
          accumulators(source.data + first * format.bytes, format,
                       source.scaled ? &multiplier : nullptr, so_far ? term : result, elems);
      if (so_far != nullptr) combine_with(so_far, next, result, elems);
      so_far = so_far == nullptr ? next : result_bytes;
    }
    if (so_far != result_bytes) std::memcpy(result, so_far, elems * sizeof(T));
    if (work.divisor != 1) divide(result, work.divisor, elems);
    to.encode(result, work.sink.data + first * to.bytes, elems);
  }
}

template <class T>
void reduce_integers(const Work& work, const Scalar& scale) {
  reduce_with<T>(work, kIntegerFormat<T>, kIntegerFormat<T>, static_cast<T>(scale.integer));
}

void reduce_floats(const Work& work, const Format<float>& tensor, const Scalar& scale) {
  reduce_with<float>(work, tensor, kFp32Format, scale.f32);
}

void reduce_type(const Work& work, ncclDataType_t type, const Scalar& scale) {
  switch (type) {
    case ncclInt8:
      return reduce_integers<int8_t>(work, scale);
    case ncclUint8:
      return reduce_integers<uint8_t>(work, scale);
    case ncclInt32:
      return reduce_integers<int32_t>(work, scale);
    case ncclUint32:
      return reduce_integers<uint32_t>(work, scale);
    case ncclInt64:
      return reduce_integers<int64_t>(work, scale);
    case ncclUint64:
      return reduce_integers<uint64_t>(work, scale);
    case ncclFloat64:
      return reduce_with<double>(work, kFp64Format, kFp64Format, scale.f64);
    case ncclFloat32:
      return reduce_floats(work, kFp32Format, scale);
    case ncclFloat16:
      return reduce_floats(work, kHalfFormat<ncclFloat16>, scale);
    case ncclBfloat16:
      return reduce_floats(work, kHalfFormat<ncclBfloat16>, scale);
    case ncclFloat8e4m3:
      return reduce_floats(work, kFp8Format<e4m3_to_float, float_to_e4m3>, scale);
    case ncclFloat8e5m2:
      return reduce_floats(work, kFp8Format<e5m2_to_float, float_to_e5m2>, scale);
    default:
      break;
  }
  throw Error(ncclInternalError, concat("reduction of data type ", static_cast<int>(type)));
}

bool is_integer(ncclDataType_t type) { return type >= ncclInt8 && type <= ncclUint64; }

bool is_one(const Scalar& scale, ncclDataType_t type) {
  if (type == ncclFloat64) return scale.f64 == 1;
  return is_integer(type) ? scale.integer == 1 : scale.f32 == 1;
}

bool is_copy(const Work& work, ncclDataType_t type, const Scalar& scale) {
  if (work.sources.size() != 1 || work.divisor != 1) return false;
  const ReduceSource& source = work.sources[0];
  return (source.codec == work.sink.codec || type == ncclFloat32) &&
         !(source.scaled && !is_one(scale, type));
}

void check_codec(Codec codec, ncclDataType_t type) {
  ensure(codec == Codec::kTensor || codec == wide_codec(type), "reduction of ", type_name(type),
         " as ", name(codec));
}

template <class T>
uint64_t extended(const void* integer) {
  return static_cast<uint64_t>(load<T>(static_cast<const std::byte*>(integer)));
}

uint64_t read_integer(const void* scalar, ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
      return extended<int8_t>(scalar);
    case ncclUint8:
      return extended<uint8_t>(scalar);
    case ncclInt32:
      return extended<int32_t>(scalar);
    case ncclUint32:
      return extended<uint32_t>(scalar);
    default:
      return extended<uint64_t>(scalar);
  }
}

float read_float(const std::byte* scalar, ncclDataType_t type) {
  switch (type) {
    case ncclFloat16:
      return fp16_to_float(load<uint16_t>(scalar));
    case ncclBfloat16:
      return bf16_to_float(load<uint16_t>(scalar));
    case ncclFloat8e4m3:
      return e4m3_to_float(load<uint8_t>(scalar));
    case ncclFloat8e5m2:
      return e5m2_to_float(load<uint8_t>(scalar));
    default:
      return load<float>(scalar);
  }
}

}  // namespace

std::string_view name(Reduction reduction) {
  constexpr std::string_view kNames[] = {"sum", "prod", "max", "min"};
  return kNames[static_cast<size_t>(reduction)];
}

Scalar read_scalar(const void* scalar, ncclDataType_t type) {
  static_cast<void>(type_bytes(type));  // throws for an unknown type
  const auto* data = static_cast<const std::byte*>(scalar);
  Scalar value;
  if (is_integer(type)) {
    value.integer = read_integer(scalar, type);
  } else if (type == ncclFloat64) {
    value.f64 = load<double>(data);
  } else {
    value.f32 = read_float(data, type);
  }
  return value;
}

Scalar reciprocal(int ranks) {
  return {1.0f / static_cast<float>(ranks), 1.0 / static_cast<double>(ranks), 1};
}

Codec wide_codec(ncclDataType_t type) {
  static_cast<void>(type_bytes(type));  // throws for an unknown type
  return is_integer(type) || type == ncclFloat64 ? Codec::kTensor : Codec::kFp32;
}

void reduce(std::span<const ReduceSource> sources, const ReduceSink& sink, ncclDataType_t type,
            Reduction op, const Scalar& scale, uint64_t elems) {
  const uint64_t divisor = is_integer(type) ? sink.divisor : 1;
  const Work work{sources, sink, op, divisor, elems};
  ensure(!sources.empty(), "reduction without sources");
  ensure(divisor > 0, "reduction with divisor 0");
  for (const ReduceSource& source : sources) check_codec(source.codec, type);
  check_codec(sink.codec, type);
  if (elems == 0) return;
  if (is_copy(work, type, scale)) {
    const uint64_t bytes = encoded_bytes(sink.codec, type, elems);
    if (sink.data != sources[0].data) std::memcpy(sink.data, sources[0].data, bytes);
    return;
  }
  const StandardArithmetic standard;
  reduce_type(work, type, scale);
}

}  // namespace slimccl::quant
