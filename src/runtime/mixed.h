// Numbers that all ranks compute alike, for the branches of a family that they meet at. Pure.
#pragma once

#include <cstdint>

namespace slimccl::runtime {

inline constexpr uint64_t kSplitSeed = 1469598103934665603ULL,
                          kShrinkSeed = 9650029242287828579ULL;

// FNV-1a over numbers: names a meeting of some ranks for some purpose.
[[nodiscard]] constexpr uint64_t mixed(uint64_t hash, uint64_t value) {
  for (int byte = 0; byte < 8; ++byte)
    hash = (hash ^ (value >> (8 * byte) & 0xff)) * 1099511628211ULL;
  return hash;
}

}  // namespace slimccl::runtime
