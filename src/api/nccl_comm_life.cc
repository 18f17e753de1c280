// The end of communicators, and questions about them.
#include "api/export.h"
#include "api/guard.h"
#include "api/registry.h"
#include "base/error.h"

namespace api = slimccl::api;
using slimccl::check;

SLIMCCL_TWIN(CommFinalize);
SLIMCCL_EXPORT ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  return api::guard("ncclCommFinalize", [&] {
    const auto entry = api::find(comm);
    const auto done = entry->communicator()->finalize();
    if (!entry->wishes().blocking) {
      entry->watch(done);
      return ncclInProgress;
    }
    done->wait();
    done->check_success();
    return ncclSuccess;
  });
}

SLIMCCL_TWIN(CommDestroy);
SLIMCCL_EXPORT ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  return api::guard("ncclCommDestroy", [&] {
    if (comm == nullptr) return;
    // The handle lives until it is done: an abort from another thread must be able to end a wait.
    api::find(comm)->destroy();
    api::forget(comm);
  });
}

SLIMCCL_TWIN(CommAbort);
SLIMCCL_EXPORT ncclResult_t ncclCommAbort(ncclComm_t comm) {
  return api::guard("ncclCommAbort", [&] {
    if (comm == nullptr) return;
    const auto entry = api::find(comm);
    entry->abort();
    api::forget(comm);
  });
}

SLIMCCL_TWIN(CommRevoke);
SLIMCCL_EXPORT ncclResult_t ncclCommRevoke(ncclComm_t comm, int revokeFlags) {
  return api::guard("ncclCommRevoke", [&] {
    check(revokeFlags == NCCL_REVOKE_DEFAULT, ncclInvalidArgument, "revokeFlags is ", revokeFlags,
          "; it must be NCCL_REVOKE_DEFAULT (0)");
    api::communicator_of(comm)->revoke("this communicator was revoked by ncclCommRevoke");
  });
}

SLIMCCL_TWIN(CommGetAsyncError);
SLIMCCL_EXPORT ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* asyncError) {
  return api::guard("ncclCommGetAsyncError", [&] {
    check(asyncError != nullptr, ncclInvalidArgument, "asyncError is null");
    std::string text;
    *asyncError = api::find(comm)->state(text);
    if (*asyncError != ncclSuccess && *asyncError != ncclInProgress)
      api::remember("asynchronous error", *asyncError, text);
  });
}

SLIMCCL_TWIN(CommCount);
SLIMCCL_EXPORT ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  return api::guard("ncclCommCount", [&] {
    check(count != nullptr, ncclInvalidArgument, "count is null");
    *count = api::communicator_of(comm)->ranks();
  });
}

SLIMCCL_TWIN(CommUserRank);
SLIMCCL_EXPORT ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  return api::guard("ncclCommUserRank", [&] {
    check(rank != nullptr, ncclInvalidArgument, "rank is null");
    *rank = api::communicator_of(comm)->rank();
  });
}

SLIMCCL_TWIN(CommCuDevice);
SLIMCCL_EXPORT ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
  return api::guard("ncclCommCuDevice", [&] {
    check(device != nullptr, ncclInvalidArgument, "device is null");
    *device = api::find(comm)->wishes().device;
  });
}
