// SLIMCCL_TRACE: a line of JSON for each call that carries data, for whoever wants to know what a
// program calls: the first step of every question about a policy.
#pragma once

#include <string>

#include "core/state.h"

namespace slimccl::overlay {

[[nodiscard]] inline bool tracing() noexcept { return !State::instance().settings.trace.empty(); }

// Writes the call's line, at once and whole. A failure is a warning, and the end of the trace.
void trace(Entry& entry, const Call& call, const void* from, const void* into,
           const void* stream) noexcept;

}  // namespace slimccl::overlay
