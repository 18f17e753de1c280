// The exact reductions: sum, product, maximum and minimum of all NCCL types, which nothing
// compresses. Kernels::fold is the verb for compressed sums; for sums of fp32, bf16 and fp16 both
// give the same bits.
//
// Accumulators: an integer type is its own and wraps around, for products and multipliers too; fp64
// is its own; every narrower float is accumulated in fp32, one IEEE rounding a step, and rounded to
// nearest even once, on output. Overflow on output stays visible, for a loss scaler to see: fp16,
// bf16 and e5m2 become infinite, e4m3, which has no infinity, becomes NaN. Infinities and NaN of
// sources survive: any NaN makes a maximum or minimum NaN, and every NaN is written as the type's
// one NaN. -0 is less than +0. The calling thread's floating-point mode does not matter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "quant/codec.h"

namespace slimccl::quant {

enum class Reduction : uint8_t { kSum, kProd, kMax, kMin };

[[nodiscard]] std::string_view name(Reduction reduction);  // "sum", "prod", "max", "min"

// A multiplier in every accumulator a type may have (PreMulSum's scalar, an average's 1/ranks).
struct Scalar {
  float f32 = 1;
  double f64 = 1;
  uint64_t integer = 1;  // two's complement
  bool operator==(const Scalar&) const = default;
};

// Reads one element of `type`, of any alignment, into the accumulator of `type`; the others stay 1.
[[nodiscard]] Scalar read_scalar(const void* scalar, ncclDataType_t type);
// 1/ranks in the float accumulators; integers are summed first and then divided: ReduceSink.
[[nodiscard]] Scalar reciprocal(int ranks);

// The codec in which partial results of `type` travel without a further rounding: kFp32 for floats
// up to fp32, kTensor for integers and fp64, which are their own accumulators.
[[nodiscard]] Codec wide_codec(ncclDataType_t type);

// `codec` is kTensor or wide_codec(type). Any alignment.
struct ReduceSource {
  const std::byte* data;
  Codec codec;
  bool scaled;
};

struct ReduceSink {
  std::byte* data;
  Codec codec;
  // Integers only: the finished result is divided by it and truncated toward zero, as NCCL's
  // average is. Not 0. Floats ignore it.
  uint64_t divisor = 1;
};

// sink[i] := ((s*x0[i]) op x1[i]) op x2[i] ... in the order given, each source multiplied by
// `scale` first where `scaled`. The sink may be the same memory as sources of equal element size
// (elementwise in place), otherwise they do not overlap. A mere copy (one source, in the sink's
// form, with nothing to multiply or divide by) keeps every bit, of NaN too. Any thread.
void reduce(std::span<const ReduceSource> sources, const ReduceSink& sink, ncclDataType_t type,
            Reduction op, const Scalar& scale, uint64_t elems);

}  // namespace slimccl::quant
