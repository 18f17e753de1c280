// SLIMCCL_CHECK over NCCL: before a collective is handed on, its arguments are compared between
// all ranks, over the connections they met by. The host waits for it: a tool for finding mistakes.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "core/entry.h"

namespace slimccl::overlay {

// A collective of a communicator that checks. Outside of a group it is compared here: success, or
// the error that all ranks return, and the call must not be made. Inside one it is kept for
// check_group(). Send and recv are not compared.
[[nodiscard]] ncclResult_t check_call(Entry& entry, const Call& call) noexcept;
// The calls of a group at its end, all communicators at once.
[[nodiscard]] ncclResult_t check_group(const std::vector<std::pair<Entry*, Call>>& calls) noexcept;

// The words of a call: "bf16", "avg", and which operations have a reduction or a root.
[[nodiscard]] std::string type_text(ncclDataType_t type);
[[nodiscard]] std::string reduction_text(ncclRedOp_t reduction);
[[nodiscard]] bool reduces(Operation op);
[[nodiscard]] bool has_root(Operation op);

// What one rank is about to call. Pure.
[[nodiscard]] std::string signature_text(const Call& call, uint64_t number);
// Empty if all ranks say the same, else the ranks and the first calls that differ: "ranks 0, 2:
// call 12: all_reduce of 5 x fp32, sum; rank 1: call 12: ...". Texts of one rank are joined by
// newlines.
[[nodiscard]] std::string mismatch(std::span<const std::string> by_rank);

// What an exchange between the ranks of a communicator is for: its first byte.
enum class Exchange : char { kSplit = 's', kCheck = 'c' };

}  // namespace slimccl::overlay
