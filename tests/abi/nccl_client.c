// A C program that knows NCCL and nothing of SlimCCL but the header's place: one collective on one
// rank. Exit code 0 when all is right.
#include <slimccl/nccl.h>
#include <stdio.h>

static int failed(const char* what, ncclResult_t result) {
  if (result == ncclSuccess) return 0;
  fprintf(stderr, "%s: %s\n", what, ncclGetErrorString(result));
  return 1;
}

int main(void) {
  int version = 0;
  if (failed("version", ncclGetVersion(&version)) || version != NCCL_VERSION_CODE) return 1;
  ncclUniqueId id;
  ncclComm_t comm = NCCL_COMM_NULL;
  if (failed("id", ncclGetUniqueId(&id))) return 2;
  if (failed("init", ncclCommInitRank(&comm, 1, id, 0))) return 3;
  float values[3] = {1, 2, 3};
  if (failed("sum", ncclAllReduce(values, values, 3, ncclFloat32, ncclSum, comm, NULL))) return 4;
  if (values[0] != 1 || values[1] != 2 || values[2] != 3) return 5;
  if (failed("destroy", ncclCommDestroy(comm))) return 6;
  puts("nccl_client: all right");
  return 0;
}
