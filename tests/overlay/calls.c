// The calls of a program or of a plugin: linked into one, they are that one's.
#include <stdio.h>
#include <string.h>

#include "slimccl/nccl.h"

static ncclResult_t call(const char* name) {
  static ncclComm_t comm;
  static float from, into;
  ncclUniqueId id;
  int version = 0;
  memset(&id, 0xff, sizeof id);
  if (strcmp(name, "GetUniqueId") == 0) {
    const ncclResult_t result = ncclGetUniqueId(&id);
    int used = sizeof id;
    while (used > 0 && id.internal[used - 1] == 0) --used;
    printf("the id is %s\n", used <= 40 ? "within 40 bytes" : "longer than 40 bytes");
    return result;
  }
  if (strcmp(name, "CommInitAll") == 0) return ncclCommInitAll(&comm, 1, NULL);
  if (strcmp(name, "CommFinalize") == 0) return ncclCommFinalize(comm);
  if (strcmp(name, "CommDestroy") == 0) return ncclCommDestroy(comm);
  if (strcmp(name, "GroupStart") == 0) return ncclGroupStart();
  if (strcmp(name, "GroupEnd") == 0) return ncclGroupEnd();
  if (strcmp(name, "AllGather") == 0) return ncclAllGather(&from, &into, 1, ncclFloat, comm, 0);
  if (strcmp(name, "AllReduce") == 0)
    return ncclAllReduce(&from, &into, 1, ncclFloat, ncclSum, comm, 0);
  if (strcmp(name, "AlltoAll") == 0) return ncclAlltoAll(&from, &into, 1, ncclFloat, comm, 0);
  if (strcmp(name, "Bcast") == 0) return ncclBcast(&into, 1, ncclFloat, 0, comm, 0);
  if (strcmp(name, "GetErrorString") == 0) {
    printf("%s\n", ncclGetErrorString(ncclInvalidUsage));
    return ncclSuccess;
  }
  if (strcmp(name, "CommCount") == 0) return ncclCommCount(comm, &version);
  if (strcmp(name, "GetVersion") == 0) {
    const ncclResult_t result = ncclGetVersion(&version);
    printf("version %d\n", version);
    return result;
  }
  return ncclNumResults;
}

// Makes the call ncclNAME; what it returned is told unless it is ncclSuccess.
void make_call(const char* name) {
  if (strcmp(name, "GetLastError") == 0) {
    printf("%s\n", ncclGetLastError(NULL));
    return;
  }
  const ncclResult_t result = call(name);
  if (result != ncclSuccess) printf("%s returned %d\n", name, result);
  fflush(stdout);
}
