// rivals_slimccl SOCKET: SlimCCL's collectives for ./dev bench rivals, through NCCL's API. Rank and
// number of ranks come from RANK and WORLD_SIZE.
#include <slimccl/slimccl.h>

#include "protocol.h"

static int call(void* context, Operation operation, const float* input, float* output,
                uint64_t elems) {
  ncclComm_t comm = *(const ncclComm_t*)context;
  int ranks = 0;
  ncclResult_t result = ncclCommCount(comm, &ranks);
  if (result != ncclSuccess) return (int)result;
  const uint64_t shard = elems / (uint64_t)ranks;
  switch (operation) {
    case kAllReduce:
      result = ncclAllReduce(input, output, elems, ncclFloat32, ncclSum, comm, NULL);
      break;
    case kAllGather:
      result = ncclAllGather(input, output, shard, ncclFloat32, comm, NULL);
      break;
    case kReduceScatter:
      result = ncclReduceScatter(input, output, shard, ncclFloat32, ncclSum, comm, NULL);
      break;
  }
  if (result != ncclSuccess) fprintf(stderr, "%s\n", ncclGetLastError(comm));
  return (int)result;
}

static int number_from_environment(const char* name) {
  const char* text = getenv(name);
  if (text == NULL) rival_fail("not set in the environment", name);
  return atoi(text);
}

int main(int argc, char** argv) {
  if (argc != 2) rival_fail("usage", "rivals_slimccl SOCKET");
  const int rank = number_from_environment("RANK");
  const int ranks = number_from_environment("WORLD_SIZE");
  ncclUniqueId id;
  memset(&id, 0, sizeof id);
  if (rank == 0 && ncclGetUniqueId(&id) != ncclSuccess) {
    rival_fail("ncclGetUniqueId", ncclGetLastError(NULL));
  }
  Driver driver = driver_connect(argv[1], rank, rank == 0 ? &id : NULL, rank == 0 ? sizeof id : 0);
  driver_receive_id(&driver, &id, sizeof id);
  ncclComm_t comm = NCCL_COMM_NULL;
  if (ncclCommInitRank(&comm, ranks, id, rank) != ncclSuccess) {
    rival_fail("ncclCommInitRank", ncclGetLastError(NULL));
  }
  char version[64];
  snprintf(version, sizeof version, "SlimCCL %s", slimcclVersion());
  const Rival rival = {version, rank, ranks, &comm, call};
  rival_serve(&driver, &rival);
  return ncclCommDestroy(comm) == ncclSuccess ? 0 : 1;
}
