// q8 messages, docs/formats/q8.md: one record per superblock: 32 bf16 scales, then 2048 INT8 codes.
// Part of a kernel row: see isa.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/codec.h"
#include "quant/isa.h"
#include "quant/land.h"

namespace slimccl::quant {
inline namespace SLIMCCL_ISA {

struct Q8 {
  static constexpr uint64_t kBlock = 64;  // elements under one scale
  static constexpr uint64_t kBlocks = kSuperblock / kBlock;
  static constexpr uint64_t kScaleBytes = kBlocks * sizeof(uint16_t);
  static constexpr uint64_t kRecordBytes = kScaleBytes + kSuperblock;

  // Where the records of a message of `elems` elements start.
  static constexpr uint64_t head_bytes(uint64_t /*elems*/) { return 0; }
  // The used part of a record that holds its first `elems` elements only.
  static constexpr uint64_t record_bytes(uint64_t elems) {
    return elems == 0 ? 0 : kScaleBytes + (elems + 15) / 16 * 16;
  }

  // Whole superblocks: 2048 elements, kRecordBytes bytes. The factor is for other formats: q8 has
  // none.
  static void encode(const float* elems, std::byte* factor, std::byte* record);
  static void decode(const std::byte* factor, const std::byte* record, float* into,
                     const Landing& landing);
};

}  // namespace SLIMCCL_ISA
}  // namespace slimccl::quant
