// A rank that calls NCCL over host memory, to be run with and without the preload. Usage:
// client MODE, with torchrun's variables and ID_FILE, where rank 0 leaves the unique id. Every mode
// prints "SUM rank hash" of all results it saw and ends with 0, or says what failed and ends
// with 3.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "slimccl/nccl.h"

enum { kElems = 1 << 17 };
static int rank, ranks;
static unsigned long long hash = 1469598103934665603ULL;

static void must(ncclResult_t result, const char* what) {
  if (result == ncclSuccess) return;
  printf("FAILED %s: %d %s: %s\n", what, (int)result, ncclGetErrorString(result),
         ncclGetLastError(NULL));
  exit(3);
}
#define MUST(call) must(call, #call)

static void take(const void* bytes, size_t count) {
  for (size_t i = 0; i < count; ++i)
    hash = (hash ^ ((const unsigned char*)bytes)[i]) * 1099511628211ULL;
}

// Rank 0's id of meeting `number`, by way of a file.
static ncclUniqueId shared_id(int number) {
  char path[4096], partial[4100];
  snprintf(path, sizeof path, "%s.%d", getenv("ID_FILE"), number);
  snprintf(partial, sizeof partial, "%s.new", path);
  ncclUniqueId id;
  if (rank == 0) {
    MUST(ncclGetUniqueId(&id));
    FILE* file = fopen(partial, "wb");
    if (file == NULL || fwrite(&id, sizeof id, 1, file) != 1) exit(4);
    fclose(file);
    rename(partial, path);
  } else {
    FILE* file = NULL;
    for (int i = 0; i < 6000 && (file = fopen(path, "rb")) == NULL; ++i) usleep(5000);
    if (file == NULL || fread(&id, sizeof id, 1, file) != 1) exit(4);
    fclose(file);
  }
  return id;
}

static ncclComm_t make(int number, int blocking) {
  ncclComm_t comm = NULL;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = blocking;
  config.commName = "world";
  ncclResult_t result = ncclCommInitRankConfig(&comm, ranks, shared_id(number), rank, &config);
  while (result == ncclInProgress) {
    usleep(1000);
    if (ncclCommGetAsyncError(comm, &result) != ncclSuccess) exit(5);
  }
  must(result, "ncclCommInitRankConfig");
  return comm;
}

static float* values(size_t count) {
  float* data = malloc(count * sizeof *data);
  for (size_t i = 0; i < count; ++i) data[i] = (float)(i % 1000) * 0.25f + (float)rank;
  return data;
}

// One of each kind of call: 12 calls that carry data, as the tests count them.
static void use(ncclComm_t comm, int size, int me) {
  float* from = values((size_t)kElems * (size_t)size);
  float* into = calloc((size_t)kElems * (size_t)size, sizeof *into);
  const size_t all = (size_t)kElems * (size_t)size * sizeof *into;
  MUST(ncclAllReduce(from, into, kElems, ncclFloat, ncclAvg, comm, NULL)), take(into, all);
  MUST(ncclAllReduce(from, into, 1, ncclFloat, ncclSum, comm, NULL)), take(into, all);
  MUST(ncclAllReduce(from, into, 100, ncclInt32, ncclMax, comm, NULL)), take(into, all);
  MUST(ncclReduceScatter(from, into, kElems, ncclFloat, ncclSum, comm, NULL)), take(into, all);
  MUST(ncclAllGather(from, into, kElems, ncclFloat, comm, NULL)), take(into, all);
  MUST(ncclBroadcast(from, into, 1000, ncclFloat, 0, comm, NULL)), take(into, all);
  MUST(ncclBcast(into, 1000, ncclFloat, size - 1, comm, NULL)), take(into, all);
  MUST(ncclReduce(from, into, 1000, ncclFloat, ncclSum, 0, comm, NULL)), take(into, all);
  MUST(ncclAlltoAll(from, into, 1000, ncclFloat, comm, NULL)), take(into, all);
  MUST(ncclGroupStart());
  MUST(ncclSend(from, 1000, ncclFloat, (me + 1) % size, comm, NULL));
  MUST(ncclRecv(into, 1000, ncclFloat, (me + size - 1) % size, comm, NULL));
  MUST(ncclGroupEnd()), take(into, all);
  MUST(ncclGroupStart());
  MUST(ncclAllGather(from, into, 1000, ncclFloat, comm, NULL));
  MUST(ncclGroupEnd()), take(into, all);
  free(from), free(into);
}

static void use_all(ncclComm_t comm) {
  int size, me;
  MUST(ncclCommCount(comm, &size));
  MUST(ncclCommUserRank(comm, &me));
  use(comm, size, me);
}

static void basic(void) {
  ncclComm_t comm = make(0, 1);
  use_all(comm);
  MUST(ncclCommFinalize(comm));
  MUST(ncclCommDestroy(comm));
}

// A process that ends takes its communicators with it, under the ranks that are not done yet.
static void wait_until_all_are_done(void) {
  char path[4096];
  snprintf(path, sizeof path, "%s.done.%d", getenv("ID_FILE"), rank);
  FILE* file = fopen(path, "wb");
  if (file == NULL || fclose(file) != 0) exit(4);
  for (int other = 0; other < ranks; ++other) {
    snprintf(path, sizeof path, "%s.done.%d", getenv("ID_FILE"), other);
    for (int i = 0; i < 6000 && access(path, F_OK) != 0; ++i) usleep(5000);
  }
}

static void without_destroy(void) {
  use_all(make(0, 1));
  wait_until_all_are_done();
}

static void non_blocking(void) {
  ncclComm_t comm = make(0, 0);
  float data[4] = {1, 2, 3, 4};
  ncclResult_t state = ncclAllReduce(data, data, 4, ncclFloat, ncclSum, comm, NULL);
  while (state == ncclInProgress) MUST(ncclCommGetAsyncError(comm, &state));
  must(state, "non-blocking");
  take(data, sizeof data);
  (void)ncclCommDestroy(comm);
}

static void all_in_one(void) {
  ncclComm_t comms[3];
  MUST(ncclCommInitAll(comms, 3, NULL));
  float data[3] = {1, 2, 3};
  MUST(ncclGroupStart());
  for (int i = 0; i < 3; ++i)
    MUST(ncclAllReduce(data + i, data + i, 1, ncclFloat, ncclSum, comms[i], NULL));
  MUST(ncclGroupEnd());
  take(data, sizeof data);
  for (int i = 0; i < 3; ++i) MUST(ncclCommDestroy(comms[i]));
}

// Even ranks, odd ranks, and rank 3 in none; and again, of the children.
static void split(void) {
  ncclComm_t world = make(0, 1), child = NULL, grandchild = NULL;
  const int color = rank == 3 ? NCCL_SPLIT_NOCOLOR : rank % 2;
  MUST(ncclCommSplit(world, color, -rank, &child, NULL));
  if (color == NCCL_SPLIT_NOCOLOR) {
    if (child != NULL) exit(6);
  } else {
    use_all(child);
    MUST(ncclCommSplit(child, 7, rank, &grandchild, NULL));
    use_all(grandchild);
    MUST(ncclCommDestroy(grandchild));
    MUST(ncclCommDestroy(child));
  }
  use_all(world);
  MUST(ncclCommDestroy(world));
}

// The last rank is killed; the others go on without it.
static void shrink(void) {
  ncclComm_t world = make(0, 1), child = NULL;
  use_all(world);
  if (rank == ranks - 1) raise(SIGKILL);
  ncclResult_t error = ncclSuccess;
  for (int i = 0; i < 4000 && error == ncclSuccess; ++i) {
    usleep(5000);
    MUST(ncclCommGetAsyncError(world, &error));
  }
  int dead = ranks - 1;
  MUST(ncclCommShrink(world, &dead, 1, &child, NULL, NCCL_SHRINK_ABORT));
  use_all(child);
  MUST(ncclCommDestroy(child));
  MUST(ncclCommAbort(world));
}

// This process is ranks 2 * rank and 2 * rank + 1 of twice as many.
static void two_ranks(void) {
  ncclComm_t comms[2];
  const ncclUniqueId id = shared_id(0);
  MUST(ncclGroupStart());
  for (int i = 0; i < 2; ++i) MUST(ncclCommInitRank(&comms[i], 2 * ranks, id, 2 * rank + i));
  MUST(ncclGroupEnd());
  float data[2] = {1, 2};
  MUST(ncclGroupStart());
  for (int i = 0; i < 2; ++i)
    MUST(ncclAllReduce(data + i, data + i, 1, ncclFloat, ncclSum, comms[i], NULL));
  MUST(ncclGroupEnd());
  take(data, sizeof data);
  for (int i = 0; i < 2; ++i) MUST(ncclCommDestroy(comms[i]));
}

static size_t entries_of(const char* folder) {
  char command[96];
  snprintf(command, sizeof command, "ls %s | wc -l", folder);
  FILE* pipe = popen(command, "r");
  unsigned long count = 0;
  if (pipe == NULL || fscanf(pipe, "%lu", &count) != 1) exit(7);
  pclose(pipe);
  return count;
}

static size_t resident_kib(void) {
  size_t pages = 0;
  FILE* file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%*u %zu", &pages) != 1) exit(7);
  fclose(file);
  return pages * 4;
}

// Communicators come and go; descriptors, threads and memory do not grow. The engine and the
// rendezvous close what a communicator had a moment after it, so the second reading waits for that.
static void many(void) {
  size_t fds = 0, threads = 0, kib = 0;
  long more_fds = 0, more_threads = 0;
  char folders[2][64];
  snprintf(folders[0], sizeof folders[0], "/proc/%d/fd", (int)getpid());
  snprintf(folders[1], sizeof folders[1], "/proc/%d/task", (int)getpid());
  for (int i = 0; i < 200; ++i) {
    ncclComm_t comm = make(i, 1);
    float one = 1;
    MUST(ncclAllReduce(&one, &one, 1, ncclFloat, ncclSum, comm, NULL));
    MUST(ncclCommDestroy(comm));
    if (i == 99)
      fds = entries_of(folders[0]), threads = entries_of(folders[1]), kib = resident_kib();
  }
  for (int i = 0; i < 100; ++i, usleep(100 * 1000)) {
    more_fds = (long)(entries_of(folders[0]) - fds);
    more_threads = (long)(entries_of(folders[1]) - threads);
    if (more_fds <= 0 && more_threads <= 0) break;
  }
  printf("GREW fds=%ld threads=%ld kib=%ld\n", more_fds, more_threads,
         (long)(resident_kib() - kib));
}

static ncclComm_t volatile joining;
static void* abort_soon(void* unused) {
  (void)unused;
  sleep(1);
  printf("ABORT %d\n", (int)ncclCommAbort(joining));
  return NULL;
}

// The last rank has no preload, so the others wait for it; rank 0 is aborted while it does.
static void abort_joining(void) {
  const ncclUniqueId id = shared_id(0);
  pthread_t thread;
  if (rank == 0 && pthread_create(&thread, NULL, abort_soon, NULL) != 0) exit(8);
  const ncclResult_t result = ncclCommInitRank((ncclComm_t*)&joining, ranks, id, rank);
  printf("INIT %d %s\n", (int)result, result == ncclSuccess ? "" : ncclGetLastError(NULL));
  if (rank == 0) pthread_join(thread, NULL);
}

// One more call on rank 1 than elsewhere, or another: none of them is made.
static void differ(int grouped) {
  ncclComm_t comm = make(0, 1);
  use_all(comm);
  float data[8] = {0};
  if (grouped) MUST(ncclGroupStart());
  ncclResult_t result =
      ncclAllReduce(data, data, rank == 1 ? 7 : 8, ncclFloat, ncclSum, comm, NULL);
  if (grouped) result = ncclGroupEnd();
  printf("RESULT %d %s\n", (int)result, ncclGetLastError(comm));
  use_all(comm);  // it goes on
  MUST(ncclCommDestroy(comm));
}

static void twice(void) {
  ncclComm_t comm = make(0, 1);
  use_all(comm);
  use_all(comm);
  MUST(ncclCommDestroy(comm));
}

// Rank 1 does not make the call that the others check.
static void absent(void) {
  ncclComm_t comm = make(0, 1);
  float one = 1;
  if (rank == 1) {
    sleep(4);
  } else {
    const ncclResult_t result = ncclAllReduce(&one, &one, 1, ncclFloat, ncclSum, comm, NULL);
    printf("RESULT %d %s\n", (int)result, ncclGetLastError(comm));
  }
  MUST(ncclCommAbort(comm));
}

static void wait_for_signal(void) {
  ncclComm_t comm = make(0, 1);
  use_all(comm);
  printf("READY\n");
  fflush(stdout);
  sleep(60);
}

static void with_child(void) {
  ncclComm_t comm = make(0, 1);
  const pid_t child = fork();
  if (child == 0) exit(0);
  int status = 1;
  waitpid(child, &status, 0);
  printf("CHILD %d %d\n", (int)child, status);
  use_all(comm);
  MUST(ncclCommDestroy(comm));
}

int main(int count, char** arguments) {
  const char* mode = count > 1 ? arguments[1] : "";
  rank = atoi(getenv("RANK")), ranks = atoi(getenv("WORLD_SIZE"));
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (strcmp(mode, "basic") == 0) basic();
  if (strcmp(mode, "without_destroy") == 0) without_destroy();
  if (strcmp(mode, "non_blocking") == 0) non_blocking();
  if (strcmp(mode, "all_in_one") == 0) all_in_one();
  if (strcmp(mode, "split") == 0) split();
  if (strcmp(mode, "shrink") == 0) shrink();
  if (strcmp(mode, "two_ranks") == 0) two_ranks();
  if (strcmp(mode, "many") == 0) many();
  if (strcmp(mode, "abort_joining") == 0) abort_joining();
  if (strcmp(mode, "differ") == 0) differ(0);
  if (strcmp(mode, "differ_grouped") == 0) differ(1);
  if (strcmp(mode, "twice") == 0) twice();
  if (strcmp(mode, "absent") == 0) absent();
  if (strcmp(mode, "signal") == 0) wait_for_signal();
  if (strcmp(mode, "fork") == 0) with_child();
  printf("SUM %d %016llx\n", rank, hash);
  return 0;
}
