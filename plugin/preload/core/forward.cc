#include "core/forward.h"

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

// The outcome, from memory if it was judged lately.
Reason judge(Entry& entry, const Policy& policy, const Call& call, const void* from,
             const void* into) {
  const Reason standing = entry.standing.load(std::memory_order_acquire);
  if (standing != Reason::kCompressible) return standing;
  const bool windowed = in_window(entry, from, into);
  const uint64_t hash = call.count * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(call.op) * 12 +
                        static_cast<uint64_t>(call.type);
  const std::lock_guard lock(entry.judged_mutex);
  Judged& judged = entry.judged[(hash ^ hash >> 32) % entry.judged.size()];
  if (!same(judged, call, windowed)) {
    // Name and topology were settled before `standing` was, and do not change: no lock is needed.
    const Decision decision = decide(call, policy,
                                     {.standing = standing,
                                      .ranks = entry.ranks,
                                      .windowed = windowed,
                                      .comm = entry.name,
                                      .topology = &*entry.topology});
    judged = {call, windowed, true, decision.reason, {}};
    if (decision.row != nullptr) {
      judged.saved = savings(call, decision.codecs, *entry.topology, entry.rank);
    }
  }
  if (judged.reason == Reason::kCompressible) {
    const auto op = static_cast<size_t>(call.op);
    Counts::add(entry.counts.compressed_elems[op], call.count);
    Counts::add(entry.counts.exact_bytes[op], judged.saved.exact_bytes);
    Counts::add(entry.counts.compressed_bytes[op], judged.saved.compressed_bytes);
  }
  return judged.reason;
}

}  // namespace

void count(Entry& entry, const Call& call, const void* from, const void* into) noexcept {
  const Policy& policy = State::instance().policy;
  Reason reason = Reason::kProfile;
  try {
    if (policy.profile != Profile::kExact) reason = judge(entry, policy, call, from, into);
  } catch (const std::exception&) {  // no memory to judge by: not counted
    return;
  }
  const auto op = static_cast<size_t>(call.op);
  Counts::add(entry.counts.calls[op][static_cast<size_t>(reason)], 1);
  Counts::add(entry.counts.elems[op], call.count);
  Counts::add(entry.counts.bytes[op], call.count * element_bytes(call.type));
}

}  // namespace slimccl::overlay
