#include "core/forward.h"

#include "base/error.h"

namespace slimccl::overlay {

bool in_window(Entry& entry, const void* from, const void* into) {
  if (entry.windows.load(std::memory_order_acquire) == 0) return false;
  const std::lock_guard lock(entry.windows_mutex);
  for (const Window& window : entry.window_list) {
    for (const void* buffer : {from, into}) {
      const auto at = reinterpret_cast<uintptr_t>(buffer);
      if (at >= window.begin && at < window.end) return true;
    }
  }
  return false;
}

namespace {

bool same(const Judged& judged, const Call& call, bool windowed) {
  return judged.known && judged.windowed == windowed && judged.call.op == call.op &&
         judged.call.count == call.count && judged.call.type == call.type &&
         judged.call.reduction == call.reduction;
}

bool shrinks(Reason reason) {
  return reason == Reason::kCompressed || reason == Reason::kCompressible;
}

// What may keep one call from being compressed although its like are.
Reason unless_now(const Entry& entry, const Buffers& buffers) {
  if (State::instance().paused > 0) return Reason::kPaused;
  const auto compressor = entry.compressor_now();
  if (compressor == nullptr) return Reason::kNotAgreed;  // it has ended
  return compressor->captures(buffers.stream) ? Reason::kCapture : Reason::kCompressed;
}

// The outcome, from memory if it was judged lately.
Reason judge(Entry& entry, const Policy& policy, const Call& call, const Buffers& buffers) {
  const Reason standing = entry.standing.load(std::memory_order_acquire);
  if (standing != Reason::kCompressible) return standing;
  const bool windowed = in_window(entry, buffers.from, buffers.into);
  const uint64_t hash = call.count * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(call.op) * 12 +
                        static_cast<uint64_t>(call.type);
  const std::lock_guard lock(entry.judged_mutex);
  Judged& judged = entry.judged[(hash ^ hash >> 32) % entry.judged.size()];
  if (!same(judged, call, windowed)) {
    judged = {call, windowed, true, classify(call, policy, {standing, entry.ranks, windowed}), {}};
    if (shrinks(judged.reason)) {
      // Settled before `standing` was, and not changed since: no lock is needed.
      judged.saved = savings(call, policy, *entry.topology, entry.rank);
    }
  }
  Reason reason = judged.reason;
  if (reason == Reason::kCompressed) reason = unless_now(entry, buffers);
  if (shrinks(reason)) {
    Counts::add(entry.counts.exact_bytes, judged.saved.exact_bytes);
    Counts::add(entry.counts.compressed_bytes, judged.saved.compressed_bytes);
  }
  return reason;
}

}  // namespace

Reason count(Entry& entry, const Call& call, const Buffers& buffers) noexcept {
  const Policy& policy = State::instance().policy;
  Reason reason = Reason::kProfile;
  try {
    if (policy.profile != Profile::kExact) reason = judge(entry, policy, call, buffers);
  } catch (const std::exception&) {  // no memory to judge by
    reason = Reason::kNotAgreed;
  }
  const auto op = static_cast<size_t>(call.op);
  Counts::add(entry.counts.calls[op][static_cast<size_t>(reason)], 1);
  Counts::add(entry.counts.elems[op], call.count);
  Counts::add(entry.counts.bytes[op], call.count * element_bytes(call.type));
  return reason;
}

ncclResult_t refuse_broken(const Entry& entry) noexcept {
  try {
    entry.need_whole();
    return ncclSuccess;
  } catch (const Error& error) {
    return fail(error.code(), error.what());
  }
}

}  // namespace slimccl::overlay
