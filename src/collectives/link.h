// Which steps of a plan must wait for which: derived from the bytes they read and write, never
// placed by hand.
#pragma once

#include <cstdint>
#include <vector>

#include "collectives/plan.h"

namespace slimccl::collectives {

// Where Output lies in relation to Input.
struct Alias {
  enum class Kind : uint8_t { kNone, kAtOffset, kUnknown };
  Kind kind = Kind::kNone;
  int64_t offset = 0;  // kAtOffset: Output's first byte is Input's first byte + offset

  static Alias none() { return {}; }
  static Alias at(int64_t offset) { return {Kind::kAtOffset, offset}; }
  // Steps of different levels on Input or Output are ordered, as a level-by-level executor would
  // run them; what overlapping buffers do to each other within a level, nobody promises.
  static Alias unknown() { return {Kind::kUnknown, 0}; }

  bool operator==(const Alias&) const = default;
};

// after[i]: the steps (all earlier in program order) that must be done before step i may start.
// Each pair once, ascending; pairs implied by others may be present.
struct Links {
  std::vector<std::vector<uint32_t>> after;
};

[[nodiscard]] Links link(const Plan& plan, const Alias& alias);

}  // namespace slimccl::collectives
