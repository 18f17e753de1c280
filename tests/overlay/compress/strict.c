// The vendor's stand-in, to be named by SLIMCCL_NCCL, with what it lacks: windows; and the demand
// of the real NCCL that nothing is called for a communicator whose abort has begun. Sends take
// their time, so that an abort finds some.
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "slimccl/nccl.h"

// The stand-in's own.
ncclResult_t pncclCommAbort(ncclComm_t comm);
ncclResult_t pncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                       ncclComm_t comm, cudaStream_t stream);
ncclResult_t pncclRecv(void* into, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                       cudaStream_t stream);

static atomic_int aborting;

ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void* buffer, size_t bytes,
                                    ncclWindow_t* window, int flags) {
  (void)comm, (void)bytes, (void)flags;
  *window = (ncclWindow_t)buffer;
  return ncclSuccess;
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t window) {
  (void)comm, (void)window;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  atomic_store(&aborting, 1);
  return pncclCommAbort(comm);
}

static void must_be_whole(const char* name) {
  usleep(500);
  if (atomic_load(&aborting)) printf("BROKEN %s after ncclCommAbort\n", name);
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  must_be_whole("ncclSend");
  return pncclSend(from, count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void* into, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  must_be_whole("ncclRecv");
  return pncclRecv(into, count, type, peer, comm, stream);
}
