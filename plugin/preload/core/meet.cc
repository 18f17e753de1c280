#include "core/meet.h"

#include <sys/socket.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "core/kernels.h"
#include "core/report.h"
#include "runtime/signature.h"
#include "runtime/wire.h"
#include "topology/identity.h"

#ifndef SLIMCCL_RECORD_VERSION  // tests pretend another one
#define SLIMCCL_RECORD_VERSION SLIMCCL_VERSION
#endif

namespace slimccl::overlay {
namespace {

// The address by which the rendezvous knows this process: others may reach it there, too.
std::string own_address(const runtime::Bootstrap& star) {
  runtime::wire::Endpoint endpoint;
  endpoint.bytes = sizeof endpoint.storage;
  const bool known = getsockname(star.wait_fd(), endpoint.raw(), &endpoint.bytes) == 0;
  return known ? endpoint.ip() : "";
}

// The CUDA device that the real NCCL uses for it; -1: none, as of our own library on host memory.
int device_of(const Entry& entry) {
  const slimccl_nccl& nccl = *entry.nccl.load();
  int device = -1;
  const bool told =
      nccl.CommCuDevice != nullptr && nccl.CommCuDevice(entry.comm, &device) == ncclSuccess;
  return told ? device : -1;
}

Record own_record(const Entry& entry) {
  const State& state = State::instance();
  Record record;
  record.version = SLIMCCL_RECORD_VERSION;
  record.messages =
      concat("q8:1 q4s:1 decisions:", kDecisionsVersion, " bootstrap:", runtime::wire::kVersion);
  record.node = topology::node_identity(state.settings);
  record.settings = settings_text(state.policy);
  record.name = entry.name;
  // Loading takes memory of the GPU: only where calls might be compressed.
  record.kernels =
      state.policy.profile != Profile::kExact ? load_kernels(device_of(entry)) : kKernelsNotTried;
  record.host = host_name();
  record.family.assign(entry.own_family->internal, sizeof entry.own_family->internal);
  const slimccl_nccl& nccl = *entry.nccl.load();
  if (nccl.GetVersion != nullptr) (void)nccl.GetVersion(&record.nccl_version);
  record.checks = state.settings.check ? 1 : 0;
  record.arena_bytes = state.settings.arena_mb << 20;
  return record;
}

// Does it; the text says on which ranks that failed, and how. Empty: on none.
template <class Action>
std::string failures_of(Entry& entry, Action&& action) {
  std::string failure;
  try {
    action();
  } catch (const std::exception& error) {
    failure = error.what();
  }
  std::vector<std::string> failures;  // by rank; empty: none
  const auto mine = std::as_bytes(std::span(failure));
  for (const auto& bytes : entry.star->all_gather(mine, State::instance().settings.agree_s)) {
    failures.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  const bool none = std::ranges::all_of(failures, &std::string::empty);
  return none ? "" : runtime::who_says_what(failures);
}

// What compressed calls need, on all ranks or on none. entry.mutex is held.
void equip(Entry& entry, Verdict& verdict) {
  const auto refuse = [&](Reason standing, std::string why) {
    verdict.standing = standing;
    verdict.why = std::move(why);
    verdict.warns = true;
    entry.set_compressor(nullptr);
  };
  if (entry.records.front().kernels != kKernelsOk) {  // as on all ranks
    return refuse(Reason::kKernels,
                  "the real NCCL names no CUDA device for it, so no kernels are loaded");
  }
  const std::string no_arena = failures_of(entry, [&] {
    entry.set_compressor(make_compressor(*entry.nccl.load(), entry.comm, device_of(entry),
                                         *verdict.topology, entry.rank, verdict.arena_bytes));
  });
  if (!no_arena.empty()) {
    return refuse(Reason::kArena, concat("no arena of ", verdict.arena_bytes >> 20,
                                         " MiB (SLIMCCL_ARENA_MB): ", no_arena));
  }
  if (gathers_in_nodes(State::instance().policy, *verdict.topology)) {
    // Only now: it waits for all ranks.
    const std::string no_node = failures_of(entry, [&] { entry.compressor_now()->join_node(); });
    if (!no_node.empty()) {
      return refuse(Reason::kNode,
                    concat("no communicator of each node (SLIMCCL_ALGO): ", no_node));
    }
  }
  entry.evidence.emplace(State::instance().policy.profile);
}

// entry.mutex is held.
Verdict agreed(Entry& entry, const ncclUniqueId& place) {
  const Config& settings = State::instance().settings;
  entry.star =
      runtime::Bootstrap::join(place, entry.ranks, entry.rank, settings.agree_s, &entry.cancel);
  Config at = settings;
  if (at.address.empty()) at.address = own_address(*entry.star);
  entry.own_family = runtime::make_family_id(at);
  const auto mine = to_bytes(own_record(entry));
  for (const auto& bytes : entry.star->all_gather(mine, settings.agree_s)) {
    entry.records.push_back(record_from_bytes(bytes, SLIMCCL_RECORD_VERSION));
  }
  Verdict verdict = agree(entry.records);
  const Policy& policy = State::instance().policy;
  if (verdict.standing == Reason::kCompressible) {
    verdict.why = why_exact_by_name(policy, *verdict.name);
    if (!verdict.why.empty()) verdict.standing = Reason::kActivations;
  }
  if (verdict.standing == Reason::kCompressible && policy.compresses()) {
    equip(entry, verdict);
  }
  return verdict;
}

// The line on what holds for this communicator.
std::string outcome(const Verdict& verdict) {
  const State& state = State::instance();
  std::string text = verdict.why;
  if (state.policy.profile == Profile::kExact) {
    text = concat("profile exact, nothing is compressed", text.empty() ? "" : "; ", text);
  } else if (verdict.standing == Reason::kCompressible) {
    const bool audits = state.policy.audits();
    text = concat("profile ", state.settings.profile, ": calls of ", state.policy.floor_elems,
                  " elements per rank and more ", audits ? "would be" : "are",
                  " compressed between nodes");
    if (state.policy.profile == Profile::kAuto) {
      text += concat(" once all ranks have seen them to be weights or gradients (call ",
                     2 * kFirstPoint, " at the earliest), or by rule");
    }
    text +=
        concat("; assumes ", state.settings.net_gbits, " Gbit/s between nodes (SLIMCCL_NET_GBITS)");
    if (!audits) text += concat("; arena ", verdict.arena_bytes >> 20, " MiB");
  } else {
    text = concat("profile ", state.settings.profile, ": nothing ",
                  state.policy.audits() ? "would be" : "is", " compressed: ", text);
  }
  return verdict.checks ? text + "; SLIMCCL_CHECK compares every call's arguments first" : text;
}

// entry.mutex is held.
void settle(Entry& entry, Verdict verdict, int speaker) {
  if (verdict.name) entry.name = *verdict.name;
  entry.topology = std::move(verdict.topology);
  entry.families = std::move(verdict.families);
  entry.why = verdict.warns ? verdict.why : outcome(verdict);
  entry.standing.store(verdict.standing, std::memory_order_release);
  entry.checks = verdict.checks;
  announce(entry, verdict.warns, speaker);
  if (!verdict.names_differ.empty() && entry.rank == 0) {
    log::warn("overlay: the communicator's name differs between ranks: ", verdict.names_differ,
              "; rules go by rank 0's");
  }
  try {
    State& state = State::instance();
    const std::string blanket = blanket_warning(state.policy, entry.name);
    if (verdict.standing == Reason::kCompressible && entry.rank == 0 && !blanket.empty()) {
      log::warn("overlay: ", entry.name, ": ", blanket);
    }
    state.rule_use.see(state.policy.rules, entry.name, entry.rank, entry.ranks);
  } catch (const std::exception&) {  // no memory: a line the less
  }
}

}  // namespace

ncclResult_t meet(Entry& entry, const ncclUniqueId& place, ncclComm_t* comm) {
  if (State::instance().table.shared(entry)) return ncclSuccess;  // it stays exact
  const std::lock_guard lock(entry.mutex);
  Verdict verdict;
  int speaks = 0;
  try {
    verdict = agreed(entry, place);
  } catch (const std::exception& error) {
    verdict = {.standing = Reason::kNotAgreed, .why = explain_failure(error.what()), .warns = true};
    speaks = speaker(error.what());
    entry.star.reset();
    entry.records.clear();
    entry.set_compressor(nullptr);
  }
  entry.joining = false;
  if (entry.cancel) {
    entry.set_compressor(nullptr);
    *comm = nullptr;
    return fail(ncclInvalidUsage,
                "this communicator was ended by another thread while it was being set up");
  }
  if (verdict.standing == Reason::kVersion) entry.star.reset();  // they do not speak alike
  settle(entry, std::move(verdict), speaks);
  return ncclSuccess;
}

void stay_exact(Entry& entry, Reason standing, std::string why, Warns who) {
  State& state = State::instance();
  if (state.table.shared(entry)) return;
  const bool speaks = who == Warns::kEachProcess && !state.warned_alone.exchange(true);
  const std::lock_guard lock(entry.mutex);
  entry.joining = false;
  settle(entry, {.standing = standing, .why = std::move(why), .warns = who != Warns::kNobody},
         speaks ? entry.rank.load() : 0);
}

}  // namespace slimccl::overlay
