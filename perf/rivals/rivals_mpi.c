// rivals_mpi SOCKET: an MPI's collectives for ./dev bench rivals. Started by the MPI's own mpiexec
// and compiled by its own mpicc, once for each MPI.
#define _GNU_SOURCE
#include <mpi.h>

#include "protocol.h"

static int call(void* context, Operation operation, const float* input, float* output,
                uint64_t elems) {
  const int ranks = *(const int*)context;
  const int all = (int)elems;
  const int shard = all / ranks;
  switch (operation) {
    case kAllReduce:
      return MPI_Allreduce(input, output, all, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    case kAllGather:
      return MPI_Allgather(input, shard, MPI_FLOAT, output, shard, MPI_FLOAT, MPI_COMM_WORLD);
    case kReduceScatter:
      return MPI_Reduce_scatter_block(input, output, shard, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  }
  return -1;
}

int main(int argc, char** argv) {
  if (argc != 2) rival_fail("usage", "rivals_mpi SOCKET");
  MPI_Init(&argc, &argv);
  int rank = 0;
  int ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  char version[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(version, &length);
  Driver driver = driver_connect(argv[1], rank, NULL, 0);
  driver_receive_id(&driver, NULL, 0);
  const Rival rival = {version, rank, ranks, &ranks, call};
  rival_serve(&driver, &rival);
  MPI_Finalize();
  return 0;
}
