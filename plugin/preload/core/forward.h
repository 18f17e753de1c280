// The way of every call that carries data: compared if asked for, judged, counted, and then
// compressed or handed to the real NCCL.
#pragma once

#include "core/check.h"
#include "core/state.h"

namespace slimccl::overlay {

// Judges the call and counts it; kCompressed: the real NCCL does not get it. No lock that
// communicators share, no allocation.
[[nodiscard]] Reason count(Entry& entry, const Call& call, const Buffers& buffers) noexcept;

// Whether one of the buffers lies in a window. It follows from what the program registered alone,
// never from what other threads do: ranks that call alike conclude alike.
[[nodiscard]] bool in_window(Entry& entry, const void* from, const void* into);

// The error of a communicator that a compressed call has broken.
[[nodiscard]] ncclResult_t refuse_broken(const Entry& entry) noexcept;

template <class... Parameters, class... Arguments>
ncclResult_t forward(const slimccl_nccl* real, const char* name,
                     ncclResult_t (*slimccl_nccl::*function)(Parameters...), ncclComm_t comm,
                     const Call& call, const Buffers& buffers, Arguments... arguments) noexcept {
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
    const Reason reason = count(entry, call, buffers);
    if (reason == Reason::kCompressed) return compress(entry, call, buffers);
    if (entry.broken.load(std::memory_order_relaxed)) [[unlikely]]
      return refuse_broken(entry);
  }
  const auto run = real->*function;
  if (run == nullptr) [[unlikely]]
    return missing(*real, name);
  return note(run(arguments...));
}

}  // namespace slimccl::overlay
