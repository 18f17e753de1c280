#include "core/meet.h"

#include <sys/socket.h>

#include "base/error.h"
#include "base/log.h"
#include "core/kernels.h"
#include "core/report.h"
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

Record own_record(const Entry& entry) {
  const State& state = State::instance();
  Record record;
  record.version = SLIMCCL_RECORD_VERSION;
  record.messages = concat("q8:1 q4s:1 bootstrap:", runtime::wire::kVersion);
  record.node = topology::node_identity(state.settings);
  record.settings = settings_text(state.policy);
  record.name = entry.name;
  // Loading takes memory of the GPU: only where calls might be compressed.
  record.kernels = state.policy.profile != Profile::kExact ? load_kernels() : kKernelsNotTried;
  record.host = host_name();
  record.family.assign(entry.own_family->internal, sizeof entry.own_family->internal);
  const slimccl_nccl& nccl = *entry.nccl.load();
  if (nccl.GetVersion != nullptr) (void)nccl.GetVersion(&record.nccl_version);
  record.checks = state.settings.check ? 1 : 0;
  return record;
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
  return agree(entry.records);
}

// The line on what holds for this communicator.
std::string outcome(const Verdict& verdict) {
  const State& state = State::instance();
  std::string text = verdict.why;
  if (state.policy.profile == Profile::kExact) {
    text = concat("profile exact, nothing is compressed", text.empty() ? "" : "; ", text);
  } else if (verdict.standing == Reason::kCompressible) {
    text = concat("audit: calls of ", state.policy.floor_elems,
                  " elements per rank and more would be compressed between nodes");
  } else {
    text = concat("audit: nothing would be compressed: ", text);
  }
  return verdict.checks ? text + "; SLIMCCL_CHECK compares every call's arguments first" : text;
}

// entry.mutex is held.
void settle(Entry& entry, Verdict verdict, int speaker) {
  entry.topology = std::move(verdict.topology);
  entry.families = std::move(verdict.families);
  entry.why = verdict.warns ? verdict.why : outcome(verdict);
  entry.standing.store(verdict.standing, std::memory_order_release);
  entry.checks = verdict.checks;
  announce(entry, verdict.warns, speaker);
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
  }
  entry.joining = false;
  if (entry.cancel) {
    *comm = nullptr;
    return fail(ncclInvalidUsage,
                "this communicator was ended by another thread while it was being set up");
  }
  if (verdict.standing == Reason::kVersion) entry.star.reset();  // they do not speak alike
  settle(entry, std::move(verdict), speaks);
  return ncclSuccess;
}

void stay_exact(Entry& entry, Reason standing, std::string why, bool warns) {
  if (State::instance().table.shared(entry)) return;
  const std::lock_guard lock(entry.mutex);
  entry.joining = false;
  settle(entry, {.standing = standing, .why = std::move(why), .warns = warns}, 0);
}

}  // namespace slimccl::overlay
