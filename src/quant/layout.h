// Cutting a run of elements into superblocks: what the layouts of all messages have in common.
#pragma once

#include <cstdint>

#include "quant/bits.h"

namespace slimccl::quant {

inline constexpr uint64_t kSuperblock = 2048;  // elements; a message is cut into these
inline constexpr uint64_t kMessageAlign =
    64;  // bytes: messages start on it, and q8/q4s message sizes are multiples

SLIMCCL_HD constexpr uint64_t superblocks(uint64_t elems) {
  return (elems + kSuperblock - 1) / kSuperblock;
}

}  // namespace slimccl::quant
