// How an entry ends: with the communicator, or with the process.
#pragma once

#include <functional>

#include "core/entry.h"

namespace slimccl::overlay {

enum class End : uint8_t { kDestroyed, kAborted, kForgotten };

// Ends a communicator by `end_real`, the real NCCL's. What else of that NCCL's belongs to it ends
// too: before, so that ranks which destroy it do so in one order; of an aborted one meanwhile, for
// each may wait for a stream on which the other's messages hang.
void end_with_node(Entry& entry, End how, const std::function<void()>& end_real);
// Before the real NCCL ends it: meetings under way are given up, and the handle may be anybody's
// soon. Any thread. False: another thread ends it already.
[[nodiscard]] bool begin_end(Entry& entry, End how) noexcept;
// After: the others are told, the report is written, the entry may be used again.
void end(Entry& entry, End how) noexcept;

// Reports at the end of the process, and at SIGTERM if nobody else handles it. Once per process.
void watch_for_exit();

}  // namespace slimccl::overlay
