// What makes two ranks' calls the same call, in a form that can be compared and read: for
// SLIMCCL_CHECK and for the watchdog's messages. Pure.
#pragma once

#include <span>
#include <string>

#include "collectives/plan.h"

namespace slimccl::runtime {

struct Signature {
  uint64_t number;  // of the call, from 1
  uint64_t count;
  uint32_t op, type, reduction, root;

  bool operator==(const Signature&) const = default;
};

[[nodiscard]] Signature signature_of(const collectives::Shape& shape, uint64_t number);
// "call 12: all_reduce of 5 x fp32, sum"
[[nodiscard]] std::string to_text(const Signature& signature);
// Empty if all are equal, else who says what: "ranks 0, 2-3: call 12: ...; rank 1: call 12: ...".
[[nodiscard]] std::string disagreement(std::span<const Signature> by_rank);
// The same grouping for any texts; empty texts are left out.
[[nodiscard]] std::string who_says_what(std::span<const std::string> by_rank);

}  // namespace slimccl::runtime
