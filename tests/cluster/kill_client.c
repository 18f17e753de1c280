// A rank of a run whose peer is killed. Usage: kill_client MIB, with torchrun's variables and
// KILL_RANK, the rank that will die, and ID_FILE, where rank 0 leaves the unique id.
//
// All ranks all-gather MIB mebibytes in a loop. A watchdog thread polls ncclCommGetAsyncError as a
// trainer's does; when it reports an error it aborts the communicator. The survivor prints
//   ERROR code=C after=S text=...     seconds since the epoch at which the error was known
// and exits with 0 when the error came, the blocked call returned and abort returned; the harness
// compares S with the time of the kill. Exit 9: the watchdog gave up waiting.
#include <pthread.h>
#include <slimccl/slimccl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static ncclComm_t comm;
static atomic_int stage;  // 0 running, 1 the error is known, 2 aborted

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fail(const char* what, ncclResult_t result) {
  fprintf(stderr, "%s: %s: %s\n", what, ncclGetErrorString(result), ncclGetLastError(NULL));
  exit(3);
}

static void* watch(void* unused) {
  (void)unused;
  const double deadline = now() + 60;
  while (now() < deadline) {
    ncclResult_t error = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &error);
    if (asked != ncclSuccess) fail("ncclCommGetAsyncError", asked);
    if (error != ncclSuccess && error != ncclInProgress) {
      printf("ERROR code=%d at=%.3f text=%s\n", (int)error, now(), ncclGetLastError(comm));
      fflush(stdout);
      atomic_store(&stage, 1);
      const ncclResult_t aborted = ncclCommAbort(comm);
      printf("ABORT code=%d at=%.3f\n", (int)aborted, now());
      fflush(stdout);
      atomic_store(&stage, 2);
      return NULL;
    }
    usleep(2000);
  }
  fprintf(stderr, "no asynchronous error within 60 s\n");
  _exit(9);
}

static ncclUniqueId exchange_id(int rank) {
  const char* path = getenv("ID_FILE");
  ncclUniqueId id;
  char partial[4096];
  snprintf(partial, sizeof partial, "%s.part", path);
  if (rank == 0) {
    const ncclResult_t made = ncclGetUniqueId(&id);
    if (made != ncclSuccess) fail("ncclGetUniqueId", made);
    FILE* file = fopen(partial, "wb");
    if (file == NULL || fwrite(&id, sizeof id, 1, file) != 1 || fclose(file) != 0) exit(4);
    if (rename(partial, path) != 0) exit(4);
    return id;
  }
  for (int i = 0; i < 3000; ++i) {
    FILE* file = fopen(path, "rb");
    if (file != NULL) {
      const size_t read = fread(&id, sizeof id, 1, file);
      fclose(file);
      if (read == 1) return id;
    }
    usleep(10000);
  }
  fprintf(stderr, "rank 0 left no id in %s\n", path);
  exit(4);
}

int main(int argc, char** argv) {
  if (argc != 2 || getenv("RANK") == NULL || getenv("ID_FILE") == NULL) return 2;
  const int rank = atoi(getenv("RANK"));
  const int ranks = atoi(getenv("WORLD_SIZE"));
  const size_t count = (size_t)atol(argv[1]) * 1024 * 1024 / 4 / (size_t)ranks;
  float* send = calloc(count, 4);
  float* recv = calloc(count * (size_t)ranks, 4);
  if (send == NULL || recv == NULL) return 5;
  for (size_t i = 0; i < count; ++i) send[i] = (float)(i % 97) - 48;
  const ncclUniqueId id = exchange_id(rank);
  ncclResult_t result = ncclCommInitRank(&comm, ranks, id, rank);
  if (result != ncclSuccess) fail("ncclCommInitRank", result);

  pthread_t watchdog;
  if (pthread_create(&watchdog, NULL, watch, NULL) != 0) return 5;
  for (int turn = 0; atomic_load(&stage) == 0; ++turn) {
    result = ncclAllGather(send, recv, count, ncclFloat32, comm, NULL);
    if (result != ncclSuccess) break;
    if (turn == 0) {
      printf("STARTED\n");
      fflush(stdout);
    }
  }
  printf("CALL code=%d at=%.3f text=%s\n", (int)result, now(), ncclGetLastError(NULL));
  fflush(stdout);
  pthread_join(watchdog, NULL);
  free(send);
  free(recv);
  return atomic_load(&stage) == 2 ? 0 : 6;
}
