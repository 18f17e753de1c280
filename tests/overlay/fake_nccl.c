// A small NCCL: every function counts its calls and succeeds. With FAKE_TRACE in the environment
// each call is told on stdout, as "FAKE_NAME ncclX". Variants are made by macros:
// New communicators are numbers, 1 and on.
// FAKE_NAME its name, FAKE_VERSION what ncclGetVersion says, -DncclAlltoAll=absent leaves one out.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preload/hooks.h"

#ifndef FAKE_NAME
#define FAKE_NAME "real"
#endif
#ifndef FAKE_VERSION
#define FAKE_VERSION NCCL_VERSION_CODE
#endif

_Atomic unsigned long fake_calls;

static void* own_thread(void* unused) {
  ncclBroadcast(unused, unused, 1, ncclFloat, 0, unused, unused);
  return NULL;
}

// What NCCL itself does: it calls public names of its own, and has threads that do.
static void calls_itself(const char* name) {
  if (strcmp(name, "ncclBcast") == 0) own_thread(NULL);
  if (strcmp(name, "ncclCommInitAll") == 0) {
    ncclUniqueId id;
    ncclGetUniqueId(&id);
  }
  if (strcmp(name, "ncclCommFinalize") == 0) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, own_thread, NULL) == 0) pthread_join(thread, NULL);
  }
}

static ncclResult_t called(const char* name) {
  ++fake_calls;
  if (getenv("FAKE_TRACE") != NULL) {
    printf("%s %s\n", FAKE_NAME, name);
    fflush(stdout);
  }
  calls_itself(name);
  return ncclSuccess;
}

static void make_communicator(ncclComm_t* comm) {
  static _Atomic uintptr_t made;
  if (comm != NULL) *comm = (ncclComm_t)++made;
}

static void make_id(ncclUniqueId* id) { memset(id, 0, sizeof *id); }
static void make_nothing(void* unused) {}

#define FIRST(FIRST_ARGUMENT, ...) FIRST_ARGUMENT
#define FAKE(NAME, ARGUMENTS, ...)                                 \
  ncclResult_t nccl##NAME(__VA_ARGS__) {                           \
    _Generic((FIRST ARGUMENTS), ncclComm_t *                       \
             : make_communicator, ncclUniqueId *                   \
             : make_id, default                                    \
             : make_nothing)((void*)(uintptr_t)(FIRST ARGUMENTS)); \
    return called("nccl" #NAME);                                   \
  }
SLIMCCL_HOOKS(FAKE)
FAKE(GroupStart, (NULL), void)
FAKE(GroupEnd, (NULL), void)
FAKE(CommGetAsyncError, (comm), ncclComm_t comm, ncclResult_t* result)
FAKE(CommCount, (comm), const ncclComm_t comm, int* count)
FAKE(CommUserRank, (comm), const ncclComm_t comm, int* rank)
FAKE(CommCuDevice, (comm), const ncclComm_t comm, int* device)

ncclResult_t ncclGetVersion(int* version) {
  *version = FAKE_VERSION;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) { return FAKE_NAME; }
const char* ncclGetLastError(ncclComm_t comm) { return FAKE_NAME; }
