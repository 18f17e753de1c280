// q8 messages, docs/formats/q8.md: one record per superblock: 32 bf16 scales, then 2048 INT8 codes.
// Here are the layout and the arithmetic of one block, for all rows of the kernel table.
#pragma once

#include <cstdint>

#include "quant/bits.h"
#include "quant/half.h"
#include "quant/layout.h"

namespace slimccl::quant {

struct Q8 {
  static constexpr uint64_t kBlock = 64;  // elements under one scale
  static constexpr uint64_t kBlocks = kSuperblock / kBlock;
  static constexpr uint64_t kScaleBytes = kBlocks * sizeof(uint16_t);
  static constexpr uint64_t kRecordBytes = kScaleBytes + kSuperblock;

  // Where the records of a message of `elems` elements start.
  SLIMCCL_HD static constexpr uint64_t head_bytes(uint64_t /*elems*/) { return 0; }
  // The part of that in use: the rest is padding.
  SLIMCCL_HD static constexpr uint64_t factor_bytes(uint64_t /*elems*/) { return 0; }
  // The used part of a record that holds its first `elems` elements only.
  SLIMCCL_HD static constexpr uint64_t record_bytes(uint64_t elems) {
    return elems == 0 ? 0 : kScaleBytes + (elems + 15) / 16 * 16;
  }

  // The bf16 scale of a block from its largest (bits & kMagnitudeMask). Below the smallest normal
  // scale the reciprocal could overflow: such blocks count as zero.
  SLIMCCL_HD static uint16_t scale_of(uint32_t absmax_bits) {
    const uint16_t scale = float_to_bf16(float_of(absmax_bits) / 127.0f);
    if (absmax_bits >= kInfinityBits) return kNanBits >> 16;
    return bf16_to_float(scale) < 0x1p-126f ? uint16_t{0} : scale;
  }
  // What elements are multiplied by; 0, so that all codes become 0, for zero and NaN scales.
  SLIMCCL_HD static float inverse_of(uint16_t scale) {
    const float value = bf16_to_float(scale);
    return value > 0 ? 1.0f / value : 0.0f;
  }
  // What codes are multiplied by.
  SLIMCCL_HD static float factor_of(uint16_t scale) { return canonical(bf16_to_float(scale)); }

  // No clamp: scale >= absmax / 127 * (1 - 2^-9), so |elem * inverse| stays below 127.3.
  SLIMCCL_HD static int8_t code_of(float elem, float inverse) {
    return inverse == 0 ? int8_t{0} : static_cast<int8_t>(bits_of(elem * inverse + kRounder));
  }
};

}  // namespace slimccl::quant
