// The way of every call that carries data: counted, compared if asked for, handed to the real NCCL.
#pragma once

#include <tuple>

#include "core/check.h"
#include "core/state.h"
#include "core/trace.h"

namespace slimccl::overlay {

// Counts the call. No lock that communicators share, no allocation.
void count(Entry& entry, const Call& call, const void* from, const void* into) noexcept;

// Whether one of the buffers lies in a window. It follows from what the program registered alone,
// never from what other threads do: ranks that call alike conclude alike.
[[nodiscard]] bool in_window(Entry& entry, const void* from, const void* into);

template <class... Parameters, class... Arguments>
ncclResult_t forward(const slimccl_nccl* real, const char* name,
                     ncclResult_t (*slimccl_nccl::*function)(Parameters...), ncclComm_t comm,
                     const Call& call, const void* from, const void* into,
                     Arguments... arguments) noexcept {
  State& state = State::instance();
  if (state.forked.load(std::memory_order_relaxed)) [[unlikely]] {
    real = state.maker_of(real, comm);  // all else is the parent's: locks, connections
  } else if (comm != nullptr) [[likely]] {
    Entry& entry = state.entry_of(real, comm);
    const slimccl_nccl* maker = entry.nccl.load(std::memory_order_relaxed);
    if (maker != nullptr) [[likely]]
      real = maker;
    if (entry.checks.load(std::memory_order_relaxed)) [[unlikely]] {
      if (const ncclResult_t bad = check_call(entry, call); bad != ncclSuccess) return bad;
    }
    if (tracing()) [[unlikely]]
      trace(entry, call, from, into, std::get<sizeof...(arguments) - 1>(std::tie(arguments...)));
    count(entry, call, from, into);
  }
  const auto run = real->*function;
  if (run == nullptr) [[unlikely]]
    return missing(*real, name);
  return note(run(arguments...));
}

}  // namespace slimccl::overlay
