// A C program that knows nothing but nccl.h: it includes our header, links libslimccl.so with the
// flags pkg-config gives, and makes one collective on one rank. Exit code 0 when all is right.
#include <slimccl/slimccl.h>
#include <stdio.h>
#include <string.h>

#define TRY(call)                                                                                 \
  do {                                                                                            \
    ncclResult_t result = (call);                                                                 \
    if (result != ncclSuccess) {                                                                  \
      fprintf(stderr, "%s: %s: %s\n", #call, ncclGetErrorString(result), ncclGetLastError(NULL)); \
      return 1;                                                                                   \
    }                                                                                             \
  } while (0)

int main(void) {
  int version = 0;
  TRY(ncclGetVersion(&version));
  if (version != NCCL_VERSION_CODE) return 2;
  if (strlen(slimcclVersion()) == 0) return 3;

  ncclUniqueId id;
  ncclComm_t comm = NCCL_COMM_NULL;
  TRY(ncclGetUniqueId(&id));
  TRY(ncclCommInitRank(&comm, 1, id, 0));
  float in[5] = {1, 2, 3, 4, 5};
  float out[5] = {0};
  TRY(ncclAllReduce(in, out, 5, ncclFloat32, ncclSum, comm, NULL));
  if (memcmp(in, out, sizeof in) != 0) return 4;
  TRY(ncclAllGather(in, out, 5, ncclFloat32, comm, NULL));
  TRY(ncclReduceScatter(in, out, 5, ncclFloat32, ncclAvg, comm, NULL));
  int count = 0;
  TRY(ncclCommCount(comm, &count));
  if (count != 1) return 5;
  TRY(ncclCommDestroy(comm));

  // Misuse is an answer, not a crash.
  if (ncclCommCount(comm, &count) == ncclSuccess) return 6;
  if (ncclGetUniqueId(NULL) != ncclInvalidArgument) return 7;
  if (strlen(ncclGetLastError(NULL)) == 0) return 8;
  puts("link_client: all right");
  return 0;
}
