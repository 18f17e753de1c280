// How an entry ends: with the communicator, or with the process.
#pragma once

#include "core/entry.h"

namespace slimccl::overlay {

enum class End : uint8_t { kDestroyed, kAborted, kForgotten };

// Before the real NCCL ends it: meetings under way are given up, and the handle may be anybody's
// soon. Any thread. False: another thread ends it already.
[[nodiscard]] bool begin_end(Entry& entry, End how) noexcept;
// After: the others are told, the report is written, the entry may be used again.
void end(Entry& entry, End how) noexcept;

// Reports at the end of the process, and at SIGTERM if nobody else handles it. Once per process.
void watch_for_exit();

}  // namespace slimccl::overlay
