#include "core/judge.h"

#include "base/error.h"
#include "base/log.h"
#include "core/state.h"

namespace slimccl::overlay {
namespace {

bool same(const Judged& judged, const Call& call, const Moment& moment) {
  return judged.known && judged.moment == moment && judged.call.op == call.op &&
         judged.call.count == call.count && judged.call.type == call.type &&
         judged.call.reduction == call.reduction;
}

// The decision by the policy, from memory if it was made lately.
Judged decided(Entry& entry, const Policy& policy, const Call& call, const Moment& moment) {
  const uint64_t hash = call.count * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(call.op) * 12 +
                        static_cast<uint64_t>(call.type);
  const std::lock_guard lock(entry.judged_mutex);
  Judged& judged = entry.judged[(hash ^ hash >> 32) % entry.judged.size()];
  if (same(judged, call, moment)) return judged;
  // Name and topology were settled before `standing` was, and do not change: no lock is needed.
  const Decision decision = decide(call, policy,
                                   {.standing = entry.standing,
                                    .ranks = entry.ranks,
                                    .windowed = moment.windowed,
                                    .capturing = moment.capturing,
                                    .paused = moment.paused,
                                    .comm = entry.name,
                                    .topology = &*entry.topology});
  judged = {call, moment, true, decision, {}};
  if (decision.row != nullptr) {
    judged.saved = savings(call, decision.codecs, *entry.topology, entry.rank);
  }
  return judged;
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

uint64_t input_elems(const Entry& entry, const Call& call) {
  const bool slices = call.op == Operation::kReduceScatter;
  return call.count * static_cast<uint64_t>(slices ? entry.ranks.load() : 1);
}

// The word for this call of what the ranks know of its kind.
Evidence evidence_of(Entry& entry, Compressor& compressor, const Call& call,
                     const Buffers& buffers) {
  agree_on(entry, compressor, entry.evidence->next_call());
  const auto seen =
      entry.evidence->see(call, in_place(call, entry.rank, buffers.from, buffers.into));
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

// The part of a decision that a profile which compresses asks for. `compressor`: there if the call
// may be compressed.
Reason compressing(Entry& entry, const Policy& policy, const Call& call, const Buffers& buffers,
                   const Decision& decision, Compressor* compressor) {
  if (call.op == Operation::kSend || call.op == Operation::kRecv) return decision.reason;
  const std::lock_guard lock(entry.evidence_mutex);
  if (!decision.asks_evidence) {
    entry.evidence->pass(call, decision.ruled_gradients);
    return decision.reason;
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
  Moment moment{.windowed = entry.windows.load(std::memory_order_acquire) > 0,
                .paused = State::instance().paused > 0};
  Judged judged = decided(entry, policy, call, moment);
  std::shared_ptr<Compressor> compressor;
  if (policy.compresses() &&
      (judged.decision.reason == Reason::kCompressed || judged.decision.asks_evidence)) {
    compressor = entry.compressor_now();
    if (compressor == nullptr) return {Reason::kNotAgreed};  // it has ended
    moment.capturing = compressor->captures(buffers.stream);
    if (moment.capturing) judged = decided(entry, policy, call, moment);
  }
  Outcome outcome{judged.decision.reason, judged.decision.row, judged.decision.codecs};
  if (policy.compresses()) {
    outcome.reason = compressing(entry, policy, call, buffers, judged.decision, compressor.get());
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
