// An unmodified program that calls NCCL on CUDA memory, to be run with and without the preload. It
// knows nothing of compression: it moves bytes, and the test looks at them.
//
// In FOLDER it finds program.0 (and program.1: what a second host thread does), a line each:
//   call NUMBER all_gather|reduce_scatter|all_reduce TYPE COUNT REDUCTION in|out OFFSET STREAM COMM
//   group, end, simulate                  ncclGroupStart, ncclGroupEnd, ncclGroupSimulateEnd
//   capture STREAM, captured STREAM       the calls between go into a graph, which is thrown away;
//                                         they may fail, and take their communicator with them
//   sleep RANK MS, wait                   that rank comes late; wait for all streams
//   window NUMBER in|out, unwindow        that buffer of a call is registered; the last one no more
//   pause, resume, step                   slimcclPause and so on, if they are there
// Environment: FOLDER, COMMS (how many communicators), COMM_NAME (of all of them), THREADS,
// RANKS_OF ("0,2;1,3": the ranks of each process, one device each), ROUNDS (each with communicators
// of its own), TURNS=1 (two threads' calls alternate, on the same streams), TRIES (so many calls
// may fail), ABORT="RANK CALLS" (another thread aborts that rank's first communicator after so many
// calls), and torchrun's variables. It ends with 0 and "DONE", or with "ENDED CODE TEXT" if a call
// or a communicator failed.
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"

int ranks, locals, local_rank[kMaxLocal];
ncclComm_t comms[kMaxComms][kMaxLocal];
const char* folder;

static int comm_count, first_device;
static CUcontext contexts[kMaxLocal];
static atomic_int aborting, aborted, calls_made;
static int capturing, refused[kMaxComms];  // whether a captured call of that communicator failed
static int tries;                          // calls that may fail yet
static int takes_turns;                    // the threads' calls are made in one order on all ranks
static Worker workers[2];
static ncclWindow_t windows[kMaxLocal];

void use_device(int local) { CUDA(set_current(contexts[local])); }

static int setting(const char* name, int standard) {
  const char* text = getenv(name);
  return text == NULL ? standard : atoi(text);
}

static void hung(const char* where) {
  printf("HUNG in %s\n", where);
  fflush(stdout);
  _exit(5);
}

// Ends as a trainer's watchdog does: what hangs is aborted, then the process goes.
static void ended(ncclResult_t code, const char* text) {
  printf("ENDED %d %s\n", (int)code, text);
  fflush(stdout);
  for (int comm = 0; comm < comm_count && !atomic_load(&aborting); ++comm) {
    for (int i = 0; i < locals; ++i) (void)ncclCommAbort(comms[comm][i]);
  }
  for (int polls = 0; atomic_load(&aborting) && !atomic_load(&aborted); ++polls) {
    if (polls > 30000) hung("ncclCommAbort");
    usleep(1000);
  }
  exit(0);
}

static void must(ncclResult_t result) {
  if (result != ncclSuccess) ended(result, ncclGetLastError(NULL));
}

static void locate(void) {
  const char* text = getenv("RANKS_OF");
  for (int process = setting("RANK", 0); process > 0; --process) text = strchr(text, ';') + 1;
  for (; locals == 0 || *text == ','; ++locals) {
    text += locals > 0;
    local_rank[locals] = (int)strtol(text, (char**)&text, 10);
  }
  for (text = getenv("RANKS_OF"); *text != 0; ++text) ranks += *text == ',' || *text == ';';
  ++ranks;
  folder = getenv("FOLDER");
  comm_count = setting("COMMS", 1);
  first_device = setting("LOCAL_RANK", 0);
  for (int i = 0; i < locals; ++i) CUDA(retain(&contexts[i], first_device + i));
}

// The process with rank 0 leaves the unique id of each communicator in a file.
static ncclUniqueId shared_id(int number) {
  char path[4096], partial[4100];
  snprintf(path, sizeof path, "%s/id.%d", folder, number);
  snprintf(partial, sizeof partial, "%s.new", path);
  ncclUniqueId id;
  FILE* file = NULL;
  if (local_rank[0] == 0) {
    must(ncclGetUniqueId(&id));
    file = fopen(partial, "wb");
    if (file == NULL || fwrite(&id, sizeof id, 1, file) != 1 || fclose(file) != 0) exit(4);
    rename(partial, path);
    return id;
  }
  for (int i = 0; i < 6000 && (file = fopen(path, "rb")) == NULL; ++i) usleep(5000);
  if (file == NULL || fread(&id, sizeof id, 1, file) != 1) exit(4);
  fclose(file);
  return id;
}

static ncclResult_t make_communicator(ncclComm_t* comm, ncclUniqueId id, int rank) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.commName = getenv("COMM_NAME");
  if (config.commName == NULL) return ncclCommInitRank(comm, ranks, id, rank);
  return ncclCommInitRankConfig(comm, ranks, id, rank, &config);
}

static void make_communicators(int round) {
  for (int comm = 0; comm < comm_count; ++comm) {
    const ncclUniqueId id = shared_id(round * comm_count + comm);
    if (locals > 1) must(ncclGroupStart());
    for (int i = 0; i < locals; ++i) {
      use_device(i);
      must(make_communicator(&comms[comm][i], id, local_rank[i]));
    }
    if (locals > 1) must(ncclGroupEnd());
  }
}

static Call read_call(const char* line) {
  Call call = {0};
  char op[32], type[16], place[8];
  if (sscanf(line, "call %d %31s %15s %zu %15s %7s %zu %d %d", &call.number, op, type, &call.count,
             call.reduction, place, &call.offset, &call.stream, &call.comm) != 9) {
    printf("FAILED not understood: %s\n", line);
    exit(3);
  }
  call.op = strcmp(op, "all_gather") == 0       ? kAllGather
            : strcmp(op, "reduce_scatter") == 0 ? kReduceScatter
                                                : kAllReduce;
  call.type = strcmp(type, "float32") == 0   ? ncclFloat
              : strcmp(type, "float16") == 0 ? ncclFloat16
                                             : ncclBfloat16;
  call.in_place = strcmp(place, "in") == 0;
  prepare(&call);
  return call;
}

// Nothing is allocated once the calls are under way: on a GPU that may wait for all of them.
static void set_up(Worker* worker) {
  char path[4096], line[256];
  snprintf(path, sizeof path, "%s/program.%d", folder, worker->number);
  FILE* file = fopen(path, "r");
  if (file == NULL) exit(4);
  worker->calls = calloc(kMaxCalls, sizeof *worker->calls);
  while (fgets(line, sizeof line, file) != NULL && worker->count < kMaxCalls) {
    if (strncmp(line, "call", 4) == 0) worker->calls[worker->count++] = read_call(line);
  }
  fclose(file);
  for (int i = 0; i < locals; ++i) {
    use_device(i);
    for (int s = 0; s < kStreams; ++s) CUDA(make_stream(&worker->streams[i][s], 1));
  }
  // Calls are in one order on the GPU too only if they are on one stream.
  if (takes_turns) memcpy(worker->streams, workers[0].streams, sizeof worker->streams);
}

static void look_for_errors(void) {
  for (int comm = 0; comm < comm_count && !atomic_load(&aborting); ++comm) {
    for (int i = 0; i < locals && !refused[comm]; ++i) {
      ncclResult_t state = ncclSuccess;
      if (ncclCommGetAsyncError(comms[comm][i], &state) != ncclSuccess) continue;
      if (state != ncclSuccess && state != ncclInProgress)
        ended(state, ncclGetLastError(comms[comm][i]));
    }
  }
}

static void wait_for_streams(Worker* worker) {
  for (int i = 0; i < locals; ++i) {
    use_device(i);
    for (int s = 0; s < kStreams; ++s) {
      int state, polls = 0;
      while ((state = cuda.query(worker->streams[i][s])) == kNotReady) {
        if (++polls % 20 == 0) look_for_errors();
        if (polls > 60000) hung("a stream");
        usleep(1000);
      }
      must_cuda(state, "query");
    }
  }
  look_for_errors();
}

// What follows a call on its streams, once it has been handed over.
static void follow(Worker* worker, const Call* call) {
  for (int i = 0; i < locals && !capturing; ++i) {
    use_device(i);
    after_call(call, worker, i);
  }
}

static void call_on_all(Worker* worker, const Call* call, int grouped) {
  if (atomic_load(&aborting)) {  // the communicator may be gone
    wait_for_streams(worker);
    ended(ncclSuccess, "another thread aborted");
  }
  while (takes_turns && atomic_load(&calls_made) % 2 != worker->number) usleep(100);
  if (!grouped && locals > 1) must(ncclGroupStart());
  for (int i = 0; i < locals; ++i) {
    use_device(i);
    if (!capturing) before_call(call, worker, i);
    const ncclResult_t result = make_call(call, worker, i);
    if (result != ncclSuccess && (capturing || tries-- > 0)) {
      printf("REFUSED %d %s\n", (int)result, ncclGetLastError(NULL));
      refused[call->comm] = capturing;
    } else {
      must(result);
    }
  }
  if (!grouped && locals > 1) must(ncclGroupEnd());
  atomic_fetch_add(&calls_made, 1);
}

static void sleep_if_told(int rank, int milliseconds) {
  for (int i = 0; i < locals; ++i) {
    if (local_rank[i] == rank) usleep((unsigned)milliseconds * 1000);
  }
}

static void capture(Worker* worker, int stream, int begins) {
  capturing = begins;
  for (int i = 0; i < locals; ++i) {
    use_device(i);
    CUgraph graph = NULL;
    if (begins) {
      CUDA(begin_capture(worker->streams[i][stream], 1));
    } else {
      const int result = cuda.end_capture(worker->streams[i][stream], &graph);
      printf("CAPTURED %d\n", result);
      if (result == 0) CUDA(destroy_graph(graph));
    }
  }
}

static void register_buffer(const Worker* worker, int number, int output) {
  const Call* call = worker->calls;
  while (call->number != number) ++call;
  for (int i = 0; i < locals; ++i) {
    use_device(i);
    const CUdeviceptr buffer = output ? call->at[i].output : call->at[i].input;
    must(ncclCommWindowRegister(comms[call->comm][i], (void*)(uintptr_t)buffer, call->count,
                                &windows[i], 0));
  }
}

static void unregister_buffer(void) {
  for (int i = 0; i < locals; ++i) must(ncclCommWindowDeregister(comms[0][i], windows[i]));
}

// A trainer's word on compression, which it looks for where it may not be.
static void say(const char* function) {
  ncclResult_t (*says)(void);
  void* found = dlsym(RTLD_DEFAULT, function);
  if (found == NULL) return;
  memcpy(&says, &found, sizeof says);
  must(says());
}

static void* run(void* argument) {
  Worker* worker = argument;
  char path[4096], line[256], place[4];
  int grouped = 0, next = 0, followed = 0, one = 0, other = 0;
  snprintf(path, sizeof path, "%s/program.%d", folder, worker->number);
  FILE* file = fopen(path, "r");
  while (fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, "call ", 5) == 0) call_on_all(worker, &worker->calls[next++], grouped);
    if (strcmp(line, "group\n") == 0) grouped = 1, must(ncclGroupStart());
    if (strcmp(line, "end\n") == 0) grouped = 0, must(ncclGroupEnd());
    if (strcmp(line, "simulate\n") == 0) {
      ncclSimInfo_t info = NCCL_SIM_INFO_INITIALIZER;
      grouped = 0, must(ncclGroupSimulateEnd(&info));
    }
    for (; !grouped && followed < next; ++followed) follow(worker, &worker->calls[followed]);
    if (sscanf(line, "capture %d", &one) == 1) capture(worker, one, 1);
    if (sscanf(line, "captured %d", &one) == 1) capture(worker, one, 0);
    if (sscanf(line, "sleep %d %d", &one, &other) == 2) sleep_if_told(one, other);
    if (strcmp(line, "wait\n") == 0) wait_for_streams(worker);
    if (sscanf(line, "window %d %3s", &one, place) == 2)
      register_buffer(worker, one, strcmp(place, "out") == 0);
    if (strcmp(line, "unwindow\n") == 0) unregister_buffer();
    if (strcmp(line, "pause\n") == 0) say("slimcclPause");
    if (strcmp(line, "resume\n") == 0) say("slimcclResume");
    if (strcmp(line, "step\n") == 0) say("slimcclStep");
  }
  fclose(file);
  wait_for_streams(worker);
  return NULL;
}

static void* abort_later(void* unused) {
  (void)unused;
  int rank = -1, calls = 0;
  sscanf(getenv("ABORT"), "%d %d", &rank, &calls);
  for (int i = 0; i < locals; ++i) {
    if (local_rank[i] != rank) continue;
    while (atomic_load(&calls_made) < calls) usleep(100);
    atomic_store(&aborting, 1);
    printf("ABORT %d\n", (int)ncclCommAbort(comms[0][i]));
    atomic_store(&aborted, 1);
  }
  return NULL;
}

static void destroy_communicators(void) {
  for (int comm = 0; comm < comm_count; ++comm) {
    for (int i = 0; i < locals; ++i) {
      use_device(i);
      must(refused[comm] ? ncclCommAbort(comms[comm][i]) : ncclCommDestroy(comms[comm][i]));
    }
  }
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  load_cuda();
  locate();
  make_communicators(0);
  const int threads = setting("THREADS", 1);
  takes_turns = setting("TURNS", 0);
  tries = setting("TRIES", 0);
  for (int i = 0; i < threads; ++i) workers[i].number = i, set_up(&workers[i]);
  pthread_t second, aborter;
  if (threads > 1 && pthread_create(&second, NULL, run, &workers[1]) != 0) exit(4);
  if (getenv("ABORT") != NULL && pthread_create(&aborter, NULL, abort_later, NULL) != 0) exit(4);
  run(&workers[0]);
  for (int round = 1; round < setting("ROUNDS", 1); ++round) {
    destroy_communicators();
    make_communicators(round);
    run(&workers[0]);
  }
  if (threads > 1) pthread_join(second, NULL);
  if (getenv("ABORT") != NULL) pthread_join(aborter, NULL);
  if (atomic_load(&aborting)) ended(ncclSuccess, "another thread aborted");
  for (int i = 0; i < threads; ++i) {
    for (int call = 0; call < workers[i].count; ++call) collect(&workers[i].calls[call]);
  }
  destroy_communicators();
  printf("DONE\n");
  return 0;
}
