// A core that tells each call on stdout and forwards it, as the real one does with calls that it
// leaves alone. FAKE_CORE_ABI: the interface it claims to be made for.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "preload/overlay.h"

#ifndef FAKE_CORE_ABI
#define FAKE_CORE_ABI SLIMCCL_OVERLAY_ABI
#endif

static void tell(const char* name) {
  if (getenv("FAKE_TRACE") == NULL) return;
  printf("core %s\n", name);
  fflush(stdout);
}

#define LIST(...) __VA_ARGS__
#define CORE(NAME, ARGUMENTS, ...)                                                \
  static ncclResult_t core_##NAME(const struct slimccl_nccl* real, __VA_ARGS__) { \
    tell("nccl" #NAME);                                                           \
    return real->NAME ARGUMENTS;                                                  \
  }
SLIMCCL_HOOKS(CORE)

static ncclResult_t group_start(const struct slimccl_nccl* real) {
  tell("ncclGroupStart");
  return real->GroupStart();
}
static ncclResult_t group_end(const struct slimccl_nccl* real) {
  tell("ncclGroupEnd");
  return real->GroupEnd();
}
static const char* last_error(const struct slimccl_nccl* real, ncclComm_t comm) {
  tell("ncclGetLastError");
  return real->GetLastError(comm);
}
#define OWN_CALL(NAME)                                                   \
  static ncclResult_t own_##NAME(void) {                                 \
    tell("slimccl" #NAME);                                               \
    return getenv("FAKE_FAIL") == NULL ? ncclSuccess : ncclInvalidUsage; \
  }
SLIMCCL_OWN(OWN_CALL)

const struct slimccl_overlay* slimccl_overlay_open(uint32_t abi, const char* version,
                                                   const char** why) {
  static const struct slimccl_overlay kOverlay = {
#define ENTRY(NAME, ARGUMENTS, ...) .NAME = core_##NAME,
      SLIMCCL_HOOKS(ENTRY).GroupStart = group_start, .GroupEnd = group_end,
      .GetLastError = last_error,
#define OWN_ENTRY(NAME) .NAME = own_##NAME,
      SLIMCCL_OWN(OWN_ENTRY)};
  if (getenv("FAKE_TRACE") != NULL) printf("core opened for %s\n", version);
  fflush(stdout);
  // So that other threads' first calls, or a fork, come before this one is done.
  const char* wait = getenv("FAKE_CORE_WAIT_MS");
  usleep(wait == NULL ? 0 : 1000 * atoi(wait));
  if (abi == FAKE_CORE_ABI) return &kOverlay;
  *why = "made for another preloaded file";
  return NULL;
}
