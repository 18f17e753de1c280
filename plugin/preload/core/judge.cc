#include "core/judge.h"

#include "base/error.h"
#include "base/log.h"
#include "core/state.h"
#include "runtime/in_place.h"

namespace slimccl::overlay {
namespace {

bool same(const Judged& judged, const Call& call, bool windowed) {
  return judged.known && judged.windowed == windowed && judged.call.op == call.op &&
         judged.call.count == call.count && judged.call.type == call.type &&
         judged.call.reduction == call.reduction;
}

// The decision by the policy, from memory if it was made lately.
Judged decided(Entry& entry, const Policy& policy, const Call& call) {
  const bool windowed = entry.windows.load(std::memory_order_acquire) > 0;
  const uint64_t hash = call.count * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(call.op) * 12 +
                        static_cast<uint64_t>(call.type);
  const std::lock_guard lock(entry.judged_mutex);
  Judged& judged = entry.judged[(hash ^ hash >> 32) % entry.judged.size()];
  if (same(judged, call, windowed)) return judged;
  // Name and topology were settled before `standing` was, and do not change: no lock is needed.
  const Decision decision = decide(call, policy,
                                   {.standing = entry.standing,
                                    .ranks = entry.ranks,
                                    .windowed = windowed,
                                    .comm = entry.name,
                                    .topology = &*entry.topology});
  judged = {call, windowed, true, decision, {}};
  if (decision.row != nullptr) {
    judged.saved = savings(call, decision.codecs, *entry.topology, entry.rank);
  }
  return judged;
}

// What may keep one call from being compressed although its like are.
Reason unless_now(const Compressor* compressor, const Buffers& buffers) {
  if (State::instance().paused > 0) return Reason::kPaused;
  if (compressor == nullptr) return Reason::kNotAgreed;  // it has ended
  return compressor->captures(buffers.stream) ? Reason::kCapture : Reason::kCompressed;
}

// What one rank says for all when a kind's word changes.
void say(const Entry& entry, const EvidenceTable::Change& change) {
  const std::string line = concat("overlay: ", entry.name, entry.name.empty() ? "" : ": ",
                                  entry.evidence->to_text(change));
  if (entry.rank != 0) {
    log::info(line);
  } else if (change.to == Evidence::kDemoted) {
    log::warn(line);
  } else {
    log::notice(line);
  }
}

void note_arrived(Entry& entry, Compressor& compressor) {
  for (const Sampler::Sample& sample : compressor.sampler.arrived()) {
    entry.evidence->note(sample.kind, sample.content);
  }
}

// What is due at a point of agreement.
void agree_on(Entry& entry, Compressor& compressor, const Duty& duty) {
  note_arrived(entry, compressor);
  if (duty.needs_outcome) {
    const auto of_all = entry.background.take(State::instance().settings.timeout_s);
    for (const auto& change : entry.evidence->apply(of_all)) say(entry, change);
  }
  if (!duty.takes_snapshot) return;
  check(entry.star != nullptr, ncclRemoteError,
        "the ranks of this communicator are no longer in contact, so that they cannot agree on "
        "what is compressed");
  entry.background.begin(*entry.star, entry.evidence->snapshot());
}

// What is neither in place nor apart is no evidence, and an error only if it is compressed.
bool in_place(const Entry& entry, const Call& call, const Buffers& buffers) try {
  const runtime::Call whole{.op = collective_of(call.op),
                            .type = call.type,
                            .count = call.count,
                            .input = buffers.from,
                            .output = buffers.into};
  return runtime::layout_of(whole, entry.ranks, entry.rank).in_place;
} catch (const Error&) {
  return false;
}

uint64_t input_elems(const Entry& entry, const Call& call) {
  const bool slices = call.op == Operation::kReduceScatter;
  return call.count * static_cast<uint64_t>(slices ? entry.ranks.load() : 1);
}

// The word for this call of what the ranks know of its kind.
Evidence evidence_of(Entry& entry, Compressor& compressor, const Call& call,
                     const Buffers& buffers) {
  agree_on(entry, compressor, entry.evidence->next_call());
  const auto seen = entry.evidence->see(call, in_place(entry, call, buffers));
  if (seen.wants_a_sample && buffers.from != nullptr) {
    try {
      compressor.sampler.take(seen.kind, buffers.from, input_elems(entry, call), call.type,
                              reinterpret_cast<device::CUstream>(buffers.stream));
    } catch (const Error& error) {  // another call will do; this one may still be fine as exact
      log::debug("overlay: no sample: ", error.what());
    }
  }
  return seen.word;
}

// The part of a decision that a profile which compresses asks for.
Reason compressing(Entry& entry, const Policy& policy, const Call& call, const Buffers& buffers,
                   const Decision& decision) {
  const bool collective = call.op != Operation::kSend && call.op != Operation::kRecv;
  if (!collective) return decision.reason;
  const auto compressor = entry.compressor_now();
  const bool would = decision.reason == Reason::kCompressed || decision.asks_evidence;
  const Reason now = would ? unless_now(compressor.get(), buffers) : decision.reason;
  const std::lock_guard lock(entry.evidence_mutex);
  if (now != Reason::kCompressed || !decision.asks_evidence) {
    entry.evidence->pass(call, decision.ruled_gradients);
    return now;
  }
  // Also of what is exact because that is faster: it tells what is beside it.
  const Evidence word = evidence_of(entry, *compressor, call, buffers);
  const std::string overflow = entry.evidence->overflow();
  if (!overflow.empty() && entry.rank == 0) log::warn("overlay: ", entry.name, ": ", overflow);
  return after_evidence(decision, policy.profile, word);
}

}  // namespace

Outcome judge(Entry& entry, const Policy& policy, const Call& call, const Buffers& buffers) {
  const Reason standing = entry.standing.load(std::memory_order_acquire);
  if (standing != Reason::kCompressible) return {standing};
  const Judged judged = decided(entry, policy, call);
  Outcome outcome{judged.decision.reason, judged.decision.row, judged.decision.codecs};
  if (policy.compresses()) {
    outcome.reason = compressing(entry, policy, call, buffers, judged.decision);
  }
  if (outcome.reason == Reason::kCompressed || outcome.reason == Reason::kCompressible) {
    const auto op = static_cast<size_t>(call.op);
    Counts::add(entry.counts.compressed_elems[op], call.count);
    Counts::add(entry.counts.exact_bytes[op], judged.saved.exact_bytes);
    Counts::add(entry.counts.compressed_bytes[op], judged.saved.compressed_bytes);
  }
  return outcome;
}

}  // namespace slimccl::overlay
