// How the ranks of every library that ./dev bench rivals compares talk to the driver
// (tools/dev/rivals.py). For C and for C++, header only: each program is compiled by the compiler
// wrapper of its own library.
//
// A rank connects to the driver's socket, which is a path and so reachable from every namespace,
// and says who and where it is. Rank 0's `id` bytes, if it has any, reach all other ranks through
// the driver. Then it answers lines until the driver closes the socket:
//   prepare OPERATION ELEMS   makes inputs of small integers, calls once, checks every element:
//                             {"wrong": N}
//   time START                waits until START, nanoseconds of CLOCK_MONOTONIC, which all
//                             namespaces of a machine share, then calls: {"seconds": S}
// ELEMS is the size of the larger side of the call, in floats. Between lines a rank blocks in
// read(), outside of its library, and leaves the cores to the others.
// One thread. Whatever goes wrong ends the process with a message on stderr.
#pragma once

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

typedef enum Operation { kAllReduce, kAllGather, kReduceScatter } Operation;

typedef struct Driver {
  FILE* lines;    // from the driver
  FILE* answers;  // to the driver
  int rank;
} Driver;

// What a library brings. `elems` is that of the larger side; the call is out of place and has ended
// when `call` returns: 0, or a code of the library's own.
typedef struct Rival {
  const char* version;  // in the library's words; the first line counts
  int rank, ranks;
  void* context;  // handed to `call`
  int (*call)(void* context, Operation operation, const float* input, float* output,
              uint64_t elems);
} Rival;

typedef struct Workload {
  Operation operation;
  uint64_t elems, input_elems, output_elems;
  float *input, *output;
} Workload;

static inline void rival_fail(const char* what, const char* detail) {
  fprintf(stderr, "rival: %s: %s\n", what, detail);
  exit(1);
}

// The next line without its end; false when the driver has closed the socket.
static inline int driver_read(Driver* driver, char* line, size_t capacity) {
  if (fgets(line, (int)capacity, driver->lines) == NULL) return 0;
  line[strcspn(line, "\n")] = '\0';
  return 1;
}

// Connects and says who is there. `id`: what rank 0 shares, else NULL.
static inline Driver driver_connect(const char* path, int rank, const void* id, size_t id_bytes) {
  struct sockaddr_un address;
  memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  if (strlen(path) >= sizeof address.sun_path) rival_fail("the socket's path is too long", path);
  strcpy(address.sun_path, path);
  const int socket_number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(socket_number, (const struct sockaddr*)&address, sizeof address) != 0) {
    rival_fail("nobody answers at the driver's socket", path);
  }
  Driver driver;
  driver.rank = rank;
  driver.lines = fdopen(socket_number, "r");
  driver.answers = fdopen(dup(socket_number), "w");
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  fprintf(driver.answers, "{\"rank\": %d, \"host\": \"%s\", \"id\": \"", rank, host);
  for (size_t i = 0; i < id_bytes; ++i) {
    fprintf(driver.answers, "%02x", ((const unsigned char*)id)[i]);
  }
  fprintf(driver.answers, "\"}\n");
  fflush(driver.answers);
  return driver;
}

// Waits until all ranks are connected; `id` becomes rank 0's.
static inline void driver_receive_id(Driver* driver, void* id, size_t id_bytes) {
  char line[4096];
  if (!driver_read(driver, line, sizeof line)) rival_fail("no id", "the driver went away");
  if (strlen(line) != 2 * id_bytes) rival_fail("the id has the wrong size", line);
  for (size_t i = 0; i < id_bytes; ++i) {
    unsigned value = 0;
    if (sscanf(line + 2 * i, "%2x", &value) != 1) rival_fail("the id is not hexadecimal", line);
    ((unsigned char*)id)[i] = (unsigned char)value;
  }
}

// From -8 to 7: sums over ranks are exact in any order. Neighbours, shards and ranks differ.
static inline float input_value(int rank, uint64_t index) {
  const uint32_t mixed = ((uint32_t)index + 77773u * (uint32_t)rank) * 2654435761u;
  return (float)((int)((mixed ^ (mixed << 11)) >> 28) - 8);
}

static inline float expected_value(const Workload* work, const Rival* rival, uint64_t index) {
  const uint64_t shard = work->elems / (uint64_t)rival->ranks;
  if (work->operation == kAllGather) return input_value((int)(index / shard), index % shard);
  if (work->operation == kReduceScatter) index += shard * (uint64_t)rival->rank;
  float sum = 0;
  for (int rank = 0; rank < rival->ranks; ++rank) sum += input_value(rank, index);
  return sum;
}

static inline void workload_call(const Workload* work, const Rival* rival) {
  const int code =
      rival->call(rival->context, work->operation, work->input, work->output, work->elems);
  char text[32];
  snprintf(text, sizeof text, "code %d", code);
  if (code != 0) rival_fail("the call failed", text);
}

static inline float* allocate_floats(uint64_t elems) {
  const size_t page = 4096;
  void* memory = aligned_alloc(page, (elems * sizeof(float) + page - 1) / page * page);
  if (memory == NULL) rival_fail("no memory", "aligned_alloc");
  return (float*)memory;
}

static inline void workload_prepare(Workload* work, const Rival* rival, const char* operation,
                                    uint64_t elems) {
  const char* names[] = {"all_reduce", "all_gather", "reduce_scatter"};
  int number = 0;
  while (number < 3 && strcmp(names[number], operation) != 0) ++number;
  if (number == 3) rival_fail("unknown operation", operation);
  const uint64_t shard = elems / (uint64_t)rival->ranks;
  if (shard == 0 || shard * (uint64_t)rival->ranks != elems) {
    rival_fail("the elements do not divide by the ranks", operation);
  }
  free(work->input);
  free(work->output);
  work->operation = (Operation)number;
  work->elems = elems;
  work->input_elems = work->operation == kAllGather ? shard : elems;
  work->output_elems = work->operation == kReduceScatter ? shard : elems;
  work->input = allocate_floats(work->input_elems);
  work->output = allocate_floats(work->output_elems);
  for (uint64_t i = 0; i < work->input_elems; ++i) work->input[i] = input_value(rival->rank, i);
  for (uint64_t i = 0; i < work->output_elems; ++i) work->output[i] = NAN;
}

static inline uint64_t workload_count_wrong(const Workload* work, const Rival* rival) {
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < work->output_elems; ++i) {
    wrong += work->output[i] != expected_value(work, rival, i);
  }
  return wrong;
}

static inline double workload_time(const Workload* work, const Rival* rival, int64_t start_ns) {
  const struct timespec start = {(time_t)(start_ns / 1000000000), (long)(start_ns % 1000000000)};
  struct timespec before;
  struct timespec after;
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &start, NULL) != 0) {
  }
  clock_gettime(CLOCK_MONOTONIC, &before);
  workload_call(work, rival);
  clock_gettime(CLOCK_MONOTONIC, &after);
  return (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
}

// Answers the driver until it closes the socket.
static inline void rival_serve(Driver* driver, const Rival* rival) {
  const int first_line = (int)strcspn(rival->version, "\n\"\\");
  fprintf(driver->answers, "{\"version\": \"%.*s\"}\n", first_line, rival->version);
  fflush(driver->answers);
  Workload work;
  memset(&work, 0, sizeof work);
  char line[256];
  char operation[64];
  uint64_t elems = 0;
  int64_t start_ns = 0;
  while (driver_read(driver, line, sizeof line)) {
    if (sscanf(line, "prepare %63s %" SCNu64, operation, &elems) == 2) {
      workload_prepare(&work, rival, operation, elems);
      workload_call(&work, rival);
      fprintf(driver->answers, "{\"wrong\": %" PRIu64 "}\n", workload_count_wrong(&work, rival));
    } else if (sscanf(line, "time %" SCNd64, &start_ns) == 1 && work.input != NULL) {
      fprintf(driver->answers, "{\"seconds\": %.9f}\n", workload_time(&work, rival, start_ns));
    } else {
      rival_fail("a line that is no command", line);
    }
    fflush(driver->answers);
  }
  free(work.input);
  free(work.output);
}
