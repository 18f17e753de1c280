// The way of every call that carries data: compared if asked for, judged, counted, and then
// compressed or handed to the real NCCL.
#pragma once

#include "core/check.h"
#include "core/judge.h"
#include "core/state.h"
#include "core/trace.h"

namespace slimccl::overlay {

// Judges the call and counts it; kCompressed: the real NCCL does not get it. An error if the ranks
// can no longer agree, or a compressed call has broken the communicator: nobody gets it then.
[[nodiscard]] ncclResult_t count(Entry& entry, const Call& call, const Buffers& buffers,
                                 Outcome& outcome) noexcept;

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
    if (tracing()) [[unlikely]]
      trace(entry, call, buffers.from, buffers.into, buffers.stream);
    Outcome outcome;
    if (const ncclResult_t bad = count(entry, call, buffers, outcome); bad != ncclSuccess) {
      return bad;
    }
    if (outcome.reason == Reason::kCompressed) return compress(entry, call, outcome, buffers);
  }
  const auto run = real->*function;
  if (run == nullptr) [[unlikely]]
    return missing(*real, name);
  return note(run(arguments...));
}

}  // namespace slimccl::overlay
