// q4s messages, docs/formats/q4s.md: fp32 factors of all superblocks, then one record per
// superblock: 64 signed E4M3 scales and 2048 nibbles. Part of a kernel row: see isa.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/codec.h"
#include "quant/isa.h"
#include "quant/land.h"

namespace slimccl::quant {
inline namespace SLIMCCL_ISA {

struct Q4s {
  static constexpr uint64_t kBlock = 32;  // elements under one scale
  static constexpr uint64_t kBlocks = kSuperblock / kBlock;
  static constexpr uint64_t kScaleBytes = kBlocks;
  static constexpr uint64_t kRecordBytes = kScaleBytes + kSuperblock / 2;

  // Where the records of a message of `elems` elements start: behind the factors.
  static constexpr uint64_t head_bytes(uint64_t elems) {
    const uint64_t factors = (elems + kSuperblock - 1) / kSuperblock;
    return (factors * sizeof(float) + kMessageAlign - 1) / kMessageAlign * kMessageAlign;
  }
  // The used part of a record that holds its first `elems` elements only.
  static constexpr uint64_t record_bytes(uint64_t elems) {
    return elems == 0 ? 0 : kScaleBytes + (elems + kBlock - 1) / kBlock * (kBlock / 2);
  }

  // Whole superblocks: 2048 elements, kRecordBytes bytes.
  static void encode(const float* elems, std::byte* factor, std::byte* record);
  static void decode(const std::byte* factor, const std::byte* record, float* into,
                     const Landing& landing);
};

}  // namespace SLIMCCL_ISA
}  // namespace slimccl::quant
