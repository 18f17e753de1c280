// Communicators: their making, their end, and questions about them.
#include "api/export.h"
#include "api/guard.h"
#include "api/registry.h"
#include "base/error.h"

namespace api = slimccl::api;
using slimccl::check;

SLIMCCL_EXPORT ncclResult_t ncclGetUniqueId(ncclUniqueId* uniqueId) {
  return api::guard("ncclGetUniqueId", [&] {
    check(uniqueId != nullptr, ncclInvalidArgument, "uniqueId is null");
    *uniqueId = slimccl::runtime::make_unique_id(slimccl::config());
  });
}

SLIMCCL_EXPORT ncclResult_t ncclCommInitRank(ncclComm_t* comm, int nranks, ncclUniqueId commId,
                                             int rank) {
  return api::guard("ncclCommInitRank", [&] {
    check(comm != nullptr, ncclInvalidArgument, "comm is null");
    check(nranks > 0, ncclInvalidArgument, "nranks is ", nranks, "; it must be at least 1");
    *comm = nullptr;  // a rank out of range is found where the others hear of it too
    *comm = api::add(slimccl::runtime::Communicator::create(commId, nranks, rank));
  });
}

SLIMCCL_EXPORT ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  return api::guard("ncclCommDestroy", [&] {
    if (comm == nullptr) return;
    // The handle lives until it is done: an abort from another thread must be able to end a wait.
    api::find(comm).communicator->destroy();
    api::forget(comm);
  });
}

SLIMCCL_EXPORT ncclResult_t ncclCommAbort(ncclComm_t comm) {
  return api::guard("ncclCommAbort", [&] {
    if (comm == nullptr) return;
    api::find(comm).communicator->abort();
    api::forget(comm);
  });
}

SLIMCCL_EXPORT ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* asyncError) {
  return api::guard("ncclCommGetAsyncError", [&] {
    check(asyncError != nullptr, ncclInvalidArgument, "asyncError is null");
    const auto entry = api::find(comm);
    *asyncError = entry.communicator->async_error();
    if (*asyncError != ncclSuccess) {
      api::remember("asynchronous error", *asyncError, entry.communicator->async_error_text());
    }
  });
}

SLIMCCL_EXPORT ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  return api::guard("ncclCommCount", [&] {
    check(count != nullptr, ncclInvalidArgument, "count is null");
    *count = api::find(comm).communicator->ranks();
  });
}

SLIMCCL_EXPORT ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  return api::guard("ncclCommUserRank", [&] {
    check(rank != nullptr, ncclInvalidArgument, "rank is null");
    *rank = api::find(comm).communicator->rank();
  });
}
