// An NCCL that is the stand-in but for what UNKIND asks: "split", ncclCommSplit fails on this rank
// alone; "abort", ncclCommAbort comes back only once another one is under way, as where each waits
// for a stream on which the other's messages hang.
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "slimccl/nccl.h"

#define EXPORT __attribute__((visibility("default")))

// So that the linker keeps the stand-in, where all other names are found.
__attribute__((used)) static __typeof__(&ncclGetVersion) needs_the_standin = ncclGetVersion;

static void* standin(const char* name) {
  return dlsym(dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD), name);
}

static int is_unkind(const char* how) {
  const char* asked = getenv("UNKIND");
  return asked != NULL && strcmp(asked, how) == 0;
}

EXPORT ncclResult_t ncclCommAbort(ncclComm_t comm) {
  static atomic_int begun;
  atomic_fetch_add(&begun, 1);
  for (int i = 0; is_unkind("abort") && atomic_load(&begun) < 2; ++i) {
    if (i == 10000) printf("HUNG in ncclCommAbort\n"), fflush(stdout), _exit(5);
    usleep(1000);
  }
  __typeof__(&ncclCommAbort) abort_comm = (__typeof__(abort_comm))standin("ncclCommAbort");
  return abort_comm(comm);
}

EXPORT ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* child,
                                  ncclConfig_t* config) {
  __typeof__(&ncclCommSplit) split = (__typeof__(split))standin("ncclCommSplit");
  const ncclResult_t result = split(comm, color, key, child, config);
  if (result != ncclSuccess || !is_unkind("split")) return result;
  __typeof__(&ncclCommAbort) abort_comm = (__typeof__(abort_comm))standin("ncclCommAbort");
  (void)abort_comm(*child);
  *child = NULL;
  return ncclSystemError;
}
