#include "quant/q8.h"

#include <string.h>

#include "quant/half.h"

namespace slimccl::quant {
inline namespace SLIMCCL_ISA {
namespace {

constexpr float kSmallestNormal = 0x1p-126f;

// On integer bits, where a NaN is larger than all else instead of unordered.
int32_t absmax_bits(const float* __restrict elems) {
  int32_t most = 0;
  for (uint64_t i = 0; i < Q8::kBlock; ++i) {
    const int32_t bits = static_cast<int32_t>(bits_of(elems[i]) & kMagnitudeMask);
    most = most > bits ? most : bits;
  }
  return most;
}

// Below the smallest normal scale its reciprocal could overflow: such blocks count as zero.
uint16_t scale_of(int32_t absmax) {
  const uint16_t scale = float_to_bf16(float_of(static_cast<uint32_t>(absmax)) / 127.0f);
  const bool usable = !(bf16_to_float(scale) < kSmallestNormal);
  const uint16_t finite = usable ? scale : uint16_t{0};
  return absmax >= static_cast<int32_t>(kInfinityBits) ? uint16_t{kNanBits >> 16} : finite;
}

// No clamp: scale >= absmax / 127 * (1 - 2^-9), so |elem * inverse| stays below 127.3.
void encode_block(const float* __restrict elems, float inverse, int8_t* __restrict codes) {
  for (uint64_t i = 0; i < Q8::kBlock; ++i) {
    codes[i] = static_cast<int8_t>(bits_of(elems[i] * inverse + kRounder));
  }
}

template <class LandAs>
void decode_blocks(const float* __restrict scales, const int8_t* __restrict codes,
                   float* __restrict into, LandAs land) {
  for (uint64_t b = 0; b < Q8::kBlocks; ++b) {
    const float scale = scales[b];
    one_block_at_a_time();
    for (uint64_t i = b * Q8::kBlock; i < (b + 1) * Q8::kBlock; ++i) {
      land(into[i], static_cast<float>(codes[i]) * scale);
    }
  }
}

}  // namespace

void Q8::encode(const float* elems, std::byte* /*factor*/, std::byte* record) {
  alignas(64) int32_t absmax[kBlocks];
  alignas(64) uint16_t scales[kBlocks];
  alignas(64) float inverses[kBlocks];
  for (uint64_t b = 0; b < kBlocks; ++b) absmax[b] = absmax_bits(elems + b * kBlock);
  for (uint64_t b = 0; b < kBlocks; ++b) scales[b] = scale_of(absmax[b]);
  for (uint64_t b = 0; b < kBlocks; ++b) {
    const float scale = bf16_to_float(scales[b]);
    inverses[b] = scale > 0 ? 1.0f / scale : 0.0f;  // 0 for a NaN too
  }
  memcpy(record, scales, kScaleBytes);
  int8_t* codes = reinterpret_cast<int8_t*>(record + kScaleBytes);
  for (uint64_t b = 0; b < kBlocks; ++b) {
    if (inverses[b] == 0) {
      memset(codes + b * kBlock, 0, kBlock);  // zero blocks, and those whose scale is NaN
    } else {
      encode_block(elems + b * kBlock, inverses[b], codes + b * kBlock);
    }
  }
}

void Q8::decode(const std::byte* /*factor*/, const std::byte* record, float* into,
                const Landing& landing) {
  alignas(64) uint16_t halves[kBlocks];
  alignas(64) float scales[kBlocks];
  memcpy(halves, record, kScaleBytes);
  for (uint64_t b = 0; b < kBlocks; ++b) scales[b] = bf16_to_float(halves[b]);
  const int8_t* codes = reinterpret_cast<const int8_t*>(record + kScaleBytes);
  land_products(scales, into, landing,
                [&](float* to, auto land) { decode_blocks(scales, codes, to, land); });
}

}  // namespace SLIMCCL_ISA
}  // namespace slimccl::quant
