#include "quant/q4s.h"

#include <string.h>

namespace slimccl::quant {
inline namespace SLIMCCL_ISA {
namespace {

constexpr uint64_t kBlock = Q4s::kBlock, kBlocks = Q4s::kBlocks, kHalf = kBlock / 2;
constexpr float kE4m3Max = 448.0f;
constexpr float kFactorOfMax =
    1.0f / 3584.0f;  // 1 / 8 / 448: the largest block gets the largest scale
constexpr float kSmallestFactor = 0x1p-100f;  // below, the reciprocal of a scale could overflow

// The element of largest magnitude as its bits rotated left by one: magnitude first, and the
// negative one of a tie.
uint32_t peak_key(const float* __restrict elems) {
  uint32_t most = 0;
  for (uint64_t i = 0; i < kBlock; ++i) {
    const uint32_t bits = bits_of(elems[i]);
    const uint32_t key = bits << 1 | bits >> 31;
    most = most > key ? most : key;
  }
  return most;
}

float factor_of(uint32_t key) {
  const uint32_t absmax = key >> 1;
  const float factor = float_of(absmax) * kFactorOfMax;
  if (absmax >= kInfinityBits) return float_of(kNanBits);
  return factor < kSmallestFactor ? 0.0f : factor;
}

// To the nearest E4M3, ties to even, |value| <= 448. No negative zero.
uint8_t float_to_e4m3(float value) {
  const uint32_t bits = bits_of(value), magnitude = bits & kMagnitudeMask;
  const uint32_t denormal = bits_of(float_of(magnitude) * 512.0f + kRounder) - kRounderBits;
  const uint32_t normal = ((magnitude + 0x7ffff + (magnitude >> 20 & 1)) >> 20) - 960;
  const uint32_t code = select(magnitude < 0x3c800000, denormal, normal);  // 2^-6
  return static_cast<uint8_t>(select(code == 0, 0, code | (bits >> 24 & 0x80)));
}

float e4m3_to_float(uint8_t code) {
  const uint32_t magnitude = code & 0x7fu;
  const float normal = float_of((magnitude + 960) << 20);
  // Denormals lack the implicit one: m / 512 = 2 * normal - 2^-6.
  const float value = normal + float_of(select(magnitude < 8, bits_of(normal - 0x1p-6f), 0));
  return float_of(bits_of(value) | uint32_t{code & 0x80u} << 24);
}

// A peak gets -8 times its scale, so the scale carries its sign, and the code 8 that INT4 lacks is
// never missed there.
uint8_t scale_of(uint32_t key, float inverse_factor) {
  float value = float_of(key >> 1 | key << 31) * -0.125f * inverse_factor;
  value = kE4m3Max < value ? kE4m3Max : value;
  value = -kE4m3Max > value ? -kE4m3Max : value;
  return float_to_e4m3(value);
}

// The nearest integer, clamped to -8 .. 7, plus 8.
uint32_t nibble(float value) {
  constexpr int32_t kZero = kRounderBits;
  int32_t code = static_cast<int32_t>(bits_of(value + kRounder));
  code = code > kZero - 8 ? code : kZero - 8;
  code = code < kZero + 7 ? code : kZero + 7;
  return static_cast<uint32_t>(code - (kZero - 8));
}

// The nibble bytes stay in 32-bit words here and below: g++ vectorises loops of one width best, and
// the change of width is a long loop of its own.
void encode_block(const float* __restrict elems, float inverse, uint32_t* __restrict words) {
  for (uint64_t j = 0; j < kHalf; ++j) {
    words[j] = nibble(elems[j] * inverse) | nibble(elems[j + kHalf] * inverse) << 4;
  }
}

template <class LandAs>
void decode_blocks(const float* __restrict scales, const uint32_t* __restrict words,
                   float* __restrict into, LandAs land) {
  for (uint64_t b = 0; b < kBlocks; ++b) {
    const float scale = scales[b];
    const uint32_t* codes = words + b * kHalf;
    float* low = into + b * kBlock;
    one_block_at_a_time();
    for (uint64_t j = 0; j < kHalf; ++j) {
      const int32_t word = static_cast<int32_t>(codes[j]);
      land(low[j], static_cast<float>((word & 15) - 8) * scale);
      land(low[j + kHalf], static_cast<float>((word >> 4) - 8) * scale);
    }
  }
}

}  // namespace

void Q4s::encode(const float* elems, std::byte* factor_at, std::byte* record) {
  alignas(64) uint32_t keys[kBlocks];
  alignas(64) uint8_t codes[kBlocks];
  alignas(64) float inverses[kBlocks];
  for (uint64_t b = 0; b < kBlocks; ++b) keys[b] = peak_key(elems + b * kBlock);
  uint32_t most = 0;
  for (uint64_t b = 0; b < kBlocks; ++b) most = most > keys[b] ? most : keys[b];
  const float factor = factor_of(most);
  memcpy(factor_at, &factor, sizeof(factor));
  uint8_t* nibbles = reinterpret_cast<uint8_t*>(record + kScaleBytes);
  if (!(factor > 0)) {  // nothing to tell but zeros, or but NaN
    memset(record, 0, kScaleBytes);
    memset(nibbles, 0x88, kSuperblock / 2);
    return;
  }
  const float inverse_factor = 1.0f / factor;
  for (uint64_t b = 0; b < kBlocks; ++b) codes[b] = scale_of(keys[b], inverse_factor);
  for (uint64_t b = 0; b < kBlocks; ++b) {
    const float scale = factor * e4m3_to_float(codes[b]);
    const float inverse = 1.0f / scale;
    inverses[b] = scale == 0 ? 0.0f : inverse;
  }
  memcpy(record, codes, kScaleBytes);
  alignas(64) uint32_t words[kSuperblock / 2];
  for (uint64_t b = 0; b < kBlocks; ++b) {
    one_block_at_a_time();
    encode_block(elems + b * kBlock, inverses[b], words + b * kHalf);
  }
  for (uint64_t i = 0; i < kSuperblock / 2; ++i) nibbles[i] = static_cast<uint8_t>(words[i]);
}

void Q4s::decode(const std::byte* factor_at, const std::byte* record, float* into,
                 const Landing& landing) {
  alignas(64) uint8_t codes[kBlocks];
  alignas(64) float scales[kBlocks];
  float factor;
  memcpy(&factor, factor_at, sizeof(factor));
  memcpy(codes, record, kScaleBytes);
  for (uint64_t b = 0; b < kBlocks; ++b) scales[b] = factor * e4m3_to_float(codes[b]);
  const uint8_t* nibbles = reinterpret_cast<const uint8_t*>(record + kScaleBytes);
  alignas(64) uint32_t words[kSuperblock / 2];
  for (uint64_t i = 0; i < kSuperblock / 2; ++i) words[i] = nibbles[i];
  land_products(scales, into, landing,
                [&](float* to, auto land) { decode_blocks(scales, words, to, land); });
}

}  // namespace SLIMCCL_ISA
}  // namespace slimccl::quant
