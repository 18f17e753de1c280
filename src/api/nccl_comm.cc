// The making of communicators.
#include <span>
#include <vector>

#include "api/comm_config.h"
#include "api/cuda.h"
#include "api/export.h"
#include "api/group.h"
#include "base/error.h"

namespace api = slimccl::api;
using slimccl::check;
using slimccl::runtime::Communicator;
using slimccl::runtime::Membership;
using slimccl::runtime::Options;

namespace {

Options options_of(api::Comm& comm) {
  const api::Wishes& wishes = comm.wishes();
  if (!wishes.cuda) return {wishes.name, &comm.cancelled()};
  return {wishes.name, &comm.cancelled(), wishes.device, [&comm](uint64_t bytes) {
            comm.set_staging(std::make_shared<slimccl::runtime::Staging>(
                api::cuda()->arenas, comm.wishes().device, bytes));
          }};
}

// The new communicator is of the device that is current now, in the caller's thread.
api::Wishes on_current_device(api::Wishes wishes) {
  const int device = api::current_cuda_device();
  if (device >= 0) {
    wishes.device = device;
    wishes.cuda = true;
  }
  return wishes;
}

// A communicator with its handle, to be made by `make(comm)`. The handle is there at once: a
// non-blocking owner polls it, another thread may abort it.
template <class Make>
api::Making making_of(ncclComm_t* out, api::Wishes wishes, Make&& make) {
  auto comm = std::make_shared<api::Comm>(std::move(wishes));
  *out = api::add(comm);
  // Not owned by the job: the job may run on a thread of the communicator's own.
  api::Comm* const self = comm.get();
  return {comm, comm, *out, out, [self, make] { return make(*self); }};
}

api::Making init_rank(ncclComm_t* out, int nranks, const ncclUniqueId& id, int rank,
                      api::Wishes wishes) {
  check(out != nullptr, ncclInvalidArgument, "comm is null");
  *out = nullptr;
  check(nranks > 0, ncclInvalidArgument, "nranks is ", nranks, "; it must be at least 1");
  // A rank out of range is found where the others hear of it too.
  return making_of(out, std::move(wishes), [=](api::Comm& comm) {
    return Communicator::create({id, nranks, rank}, options_of(comm));
  });
}

}  // namespace

SLIMCCL_TWIN(GetUniqueId);
SLIMCCL_EXPORT ncclResult_t ncclGetUniqueId(ncclUniqueId* uniqueId) {
  return api::guard("ncclGetUniqueId", [&] {
    check(uniqueId != nullptr, ncclInvalidArgument, "uniqueId is null");
    *uniqueId = slimccl::runtime::make_unique_id(slimccl::config());
  });
}

SLIMCCL_TWIN(CommInitRank);
SLIMCCL_EXPORT ncclResult_t ncclCommInitRank(ncclComm_t* comm, int nranks, ncclUniqueId commId,
                                             int rank) {
  return api::group_call("ncclCommInitRank", [&] {
    return init_rank(comm, nranks, commId, rank, on_current_device({}));
  });
}

SLIMCCL_TWIN(CommInitRankConfig);
SLIMCCL_EXPORT ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks,
                                                   ncclUniqueId commId, int rank,
                                                   ncclConfig_t* config) {
  return api::group_call("ncclCommInitRankConfig", [&] {
    return init_rank(comm, nranks, commId, rank, on_current_device(api::wishes_of(config)));
  });
}

SLIMCCL_TWIN(CommInitRankScalable);
SLIMCCL_EXPORT ncclResult_t ncclCommInitRankScalable(ncclComm_t* newcomm, int nranks, int myrank,
                                                     int nId, ncclUniqueId* commIds,
                                                     ncclConfig_t* config) {
  return api::group_call("ncclCommInitRankScalable", [&] {
    check(commIds != nullptr, ncclInvalidArgument, "commIds is null");
    check(nId >= 1 && nId <= nranks, ncclInvalidArgument, "nId is ", nId, "; it must be 1 to ",
          nranks, ", the number of ranks");
    return init_rank(newcomm, nranks, commIds[0], myrank,
                     on_current_device(api::wishes_of(config)));
  });
}

SLIMCCL_TWIN(CommInitAll);
SLIMCCL_EXPORT ncclResult_t ncclCommInitAll(ncclComm_t* comm, int ndev, const int* devlist) {
  return api::guard("ncclCommInitAll", [&] {
    check(comm != nullptr, ncclInvalidArgument, "comm is null");
    check(ndev > 0, ncclInvalidArgument, "ndev is ", ndev, "; it must be at least 1");
    const auto id = slimccl::runtime::make_unique_id(slimccl::config());
    api::Group& group = api::Group::of_this_thread();
    const bool cuda = api::current_cuda_device() >= 0;
    group.start();
    for (int rank = 0; rank < ndev; ++rank) {
      api::Wishes wishes;
      wishes.cuda = cuda;
      if (devlist != nullptr || cuda) wishes.device = devlist != nullptr ? devlist[rank] : rank;
      (void)group.add(init_rank(comm + rank, ndev, id, rank, wishes));
    }
    return group.end();
  });
}

SLIMCCL_TWIN(CommSplit);
SLIMCCL_EXPORT ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* newcomm,
                                          ncclConfig_t* config) {
  return api::group_call("ncclCommSplit", [&]() -> api::Making {
    check(newcomm != nullptr, ncclInvalidArgument, "newcomm is null");
    *newcomm = nullptr;
    const auto parent = api::find(comm);
    const auto communicator = parent->communicator();
    const uint64_t meeting = communicator->next_split();  // first: also for a call that is refused
    check(color >= 0 || color == NCCL_SPLIT_NOCOLOR, ncclInvalidArgument, "color is ", color,
          "; it must be at least 0, or NCCL_SPLIT_NOCOLOR (-1)");
    const auto wishes = api::wishes_of(config, parent->wishes());
    if (color == NCCL_SPLIT_NOCOLOR) {
      return {nullptr, parent, nullptr, newcomm, [=, cancel = &parent->cancelled()] {
                (void)communicator->split(meeting, color, key, cancel);
                return std::shared_ptr<Communicator>();
              }};
    }
    return making_of(newcomm, wishes, [=](api::Comm& self) {
      const auto place = communicator->split(meeting, color, key, &self.cancelled());
      return Communicator::create(*place, options_of(self));
    });
  });
}

SLIMCCL_TWIN(CommShrink);
SLIMCCL_EXPORT ncclResult_t ncclCommShrink(ncclComm_t comm, int* excludeRanksList,
                                           int excludeRanksCount, ncclComm_t* newcomm,
                                           ncclConfig_t* config, int shrinkFlags) {
  return api::group_call("ncclCommShrink", [&] {
    check(newcomm != nullptr, ncclInvalidArgument, "newcomm is null");
    *newcomm = nullptr;
    const auto parent = api::find(comm);
    const auto communicator = parent->communicator();
    check(excludeRanksCount > 0 && excludeRanksList != nullptr, ncclInvalidArgument,
          "excludeRanksList is null or excludeRanksCount (", excludeRanksCount,
          ") is not positive: name the ranks to leave out");
    check(shrinkFlags == NCCL_SHRINK_DEFAULT || shrinkFlags == NCCL_SHRINK_ABORT,
          ncclInvalidArgument, "shrinkFlags is ", shrinkFlags,
          "; it must be NCCL_SHRINK_DEFAULT (0) or NCCL_SHRINK_ABORT (1)");
    const auto wishes = api::wishes_of(config, parent->wishes());
    const auto place = communicator->shrink(
        {excludeRanksList, static_cast<size_t>(excludeRanksCount)}, shrinkFlags != 0);
    // The parent lives until then: the others may still be coming to the meeting that it serves.
    return making_of(newcomm, wishes, [place, communicator](api::Comm& self) {
      return Communicator::create(place, options_of(self));
    });
  });
}
