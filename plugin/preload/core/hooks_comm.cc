// How communicators begin and end, and what belongs to them.
#include "base/error.h"
#include "base/log.h"
#include "core/ending.h"
#include "core/hooks.h"
#include "core/id_tag.h"
#include "core/making.h"
#include "core/state.h"

namespace slimccl::overlay::hooks {
namespace {

// Ends a communicator by the real NCCL's `run`, and what we have of it.
template <class Run>
ncclResult_t ended(ncclComm_t comm, End how, Run&& run) {
  Entry* entry = comm == nullptr ? nullptr : State::instance().table.find(comm);
  const bool ours = entry != nullptr && begin_end(*entry, how);
  if (!ours) return note(run());
  ncclResult_t result = ncclSuccess;
  end_with_node(*entry, how, [&] { result = note(run()); });
  end(*entry, how);
  return result;
}

}  // namespace

#define SLIMCCL_HAVE(NAME) \
  if (real->NAME == nullptr) return missing(*real, #NAME)

ncclResult_t GetUniqueId(const slimccl_nccl* real, ncclUniqueId* id) {
  SLIMCCL_HAVE(GetUniqueId);
  const ncclResult_t result = note(real->GetUniqueId(id));
  const State& state = State::instance();
  if (result != ncclSuccess || !state.settings.id_tag || state.forked) return result;
  try {
    if (!tag(*id, state.settings)) {
      log::warn("overlay: this NCCL (", real->path,
                ") uses all of its unique id, so that there is "
                "no place for a tag: its communicators are exact");
    }
  } catch (const std::exception& error) {
    warn_of("a unique id gets no tag, so its communicators are exact: ", error);
  }
  return result;
}

ncclResult_t CommInitRankConfig(const slimccl_nccl* real, ncclComm_t* comm, int ranks,
                                ncclUniqueId id, int rank, ncclConfig_t* config) {
  SLIMCCL_HAVE(CommInitRankConfig);
  const Wishes wishes = wishes_of(config);
  return after_init(real, comm, ranks, rank, id, wishes,
                    real->CommInitRankConfig(comm, ranks, id, rank, config));
}

ncclResult_t CommInitRank(const slimccl_nccl* real, ncclComm_t* comm, int ranks, ncclUniqueId id,
                          int rank) {
  SLIMCCL_HAVE(CommInitRank);
  return after_init(real, comm, ranks, rank, id, {}, real->CommInitRank(comm, ranks, id, rank));
}

ncclResult_t CommInitRankScalable(const slimccl_nccl* real, ncclComm_t* comm, int ranks, int rank,
                                  int ids, ncclUniqueId* id, ncclConfig_t* config) {
  SLIMCCL_HAVE(CommInitRankScalable);
  const Wishes wishes = wishes_of(config);
  const ncclUniqueId first = ids > 0 && id != nullptr ? *id : ncclUniqueId{};
  return after_init(real, comm, ranks, rank, first, wishes,
                    real->CommInitRankScalable(comm, ranks, rank, ids, id, config));
}

ncclResult_t CommInitAll(const slimccl_nccl* real, ncclComm_t* comms, int devices,
                         const int* list) {
  SLIMCCL_HAVE(CommInitAll);
  return after_init_all(real, comms, devices, real->CommInitAll(comms, devices, list));
}

ncclResult_t CommFinalize(const slimccl_nccl* real, ncclComm_t comm) {
  real = State::instance().maker_of(real, comm);
  SLIMCCL_HAVE(CommFinalize);
  Entry* entry = State::instance().table.find(comm);
  if (entry != nullptr && entry->joining) entry->cancel = true;
  return note(real->CommFinalize(comm));
}

ncclResult_t CommDestroy(const slimccl_nccl* real, ncclComm_t comm) {
  real = State::instance().maker_of(real, comm);
  SLIMCCL_HAVE(CommDestroy);
  return ended(comm, End::kDestroyed, [&] { return real->CommDestroy(comm); });
}

ncclResult_t CommAbort(const slimccl_nccl* real, ncclComm_t comm) {
  real = State::instance().maker_of(real, comm);
  SLIMCCL_HAVE(CommAbort);
  return ended(comm, End::kAborted, [&] { return real->CommAbort(comm); });
}

ncclResult_t CommSplit(const slimccl_nccl* real, ncclComm_t comm, int color, int key,
                       ncclComm_t* child, ncclConfig_t* config) {
  real = State::instance().maker_of(real, comm);
  SLIMCCL_HAVE(CommSplit);
  const Wishes wishes = wishes_of(config);
  return after_split(real, comm, color, key, child, wishes,
                     real->CommSplit(comm, color, key, child, config));
}

ncclResult_t CommShrink(const slimccl_nccl* real, ncclComm_t comm, int* excluded, int count,
                        ncclComm_t* child, ncclConfig_t* config, int flags) {
  real = State::instance().maker_of(real, comm);
  SLIMCCL_HAVE(CommShrink);
  const Wishes wishes = wishes_of(config);
  return after_shrink(real, comm, excluded, count, child, wishes,
                      real->CommShrink(comm, excluded, count, child, config, flags));
}

ncclResult_t CommRevoke(const slimccl_nccl* real, ncclComm_t comm, int flags) {
  real = State::instance().maker_of(real, comm);
  SLIMCCL_HAVE(CommRevoke);
  return note(real->CommRevoke(comm, flags));
}

ncclResult_t CommWindowRegister(const slimccl_nccl* real, ncclComm_t comm, void* buffer,
                                size_t bytes, ncclWindow_t* window, int flags) {
  real = State::instance().maker_of(real, comm);
  SLIMCCL_HAVE(CommWindowRegister);
  const ncclResult_t result = note(real->CommWindowRegister(comm, buffer, bytes, window, flags));
  State& state = State::instance();
  if (result != ncclSuccess || comm == nullptr || state.forked) return result;
  // Which buffers are windowed may differ between ranks (offsets may), that there are windows not:
  // registering is collective.
  ++state.entry_of(real, comm).windows;
  return result;
}

ncclResult_t CommWindowDeregister(const slimccl_nccl* real, ncclComm_t comm, ncclWindow_t window) {
  real = State::instance().maker_of(real, comm);
  SLIMCCL_HAVE(CommWindowDeregister);
  // Not collective (an allocator that gives memory back calls it): its communicator stays exact.
  return note(real->CommWindowDeregister(comm, window));
}

ncclResult_t RedOpCreatePreMulSum(const slimccl_nccl* real, ncclRedOp_t* op, void* scalar,
                                  ncclDataType_t type, ncclScalarResidence_t residence,
                                  ncclComm_t comm) {
  real = State::instance().maker_of(real, comm);
  SLIMCCL_HAVE(RedOpCreatePreMulSum);
  const ncclResult_t result = note(real->RedOpCreatePreMulSum(op, scalar, type, residence, comm));
  State& state = State::instance();
  if (result != ncclSuccess || comm == nullptr || state.forked) return result;
  try {
    state.entry_of(real, comm).reductions.add(*op, scalar, type, residence);
  } catch (const std::exception& error) {
    warn_of("a PreMulSum is not known: ", error);
  }
  return result;
}

ncclResult_t RedOpDestroy(const slimccl_nccl* real, ncclRedOp_t op, ncclComm_t comm) {
  real = State::instance().maker_of(real, comm);
  SLIMCCL_HAVE(RedOpDestroy);
  const State& state = State::instance();
  if (Entry* entry = state.table.find(comm); entry != nullptr && !state.forked) {
    try {
      entry->reductions.destroy(op);
    } catch (const Error&) {  // the real NCCL says so
    }
  }
  return note(real->RedOpDestroy(op, comm));
}

}  // namespace slimccl::overlay::hooks
