/* The hooks. Each asks which real NCCL its caller means and gives the call to the core, or to that
 * NCCL itself: when there is no core, and for calls that NCCL makes of its own public names. */
#include "stub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The real NCCL that this thread is in, below a hook. */
static _Thread_local const struct slimccl_nccl* inside;
/* What the stub itself has to say of this thread's last hooked call; null: nothing. */
static _Thread_local char* failure;

struct call {
  const struct slimccl_nccl* real;
  const struct slimccl_overlay* core; /* null: forward */
  int version;
  bool outermost;
};

static void fail(char* text) {
  free(failure);
  failure = text;
}

static void no_nccl(void) {
  static atomic_flag told = ATOMIC_FLAG_INIT;
  static const char kText[] =
      "no NCCL was found for this program: not among its libraries, not as libnccl.so.2, not in a "
      "mapped nvidia package; set SLIMCCL_NCCL=/path/to/libnccl.so.2";
  if (!atomic_flag_test_and_set(&told)) slimccl_warn("%s", kText);
  fail(strdup(kText));
}

static ncclResult_t lacks(const struct call* call, const char* name) {
  char* text = NULL;
  if (asprintf(&text, "%s is not in this NCCL (version code %d, %s); it takes a newer NCCL", name,
               call->version, call->real->path) < 0)
    text = NULL;
  fail(text);
  return ncclInvalidUsage;
}

static struct call enter(const void* caller) {
  if (inside != NULL) return (struct call){.real = inside};
  if (failure != NULL) fail(NULL);
  const struct slimccl_route route = slimccl_find(caller);
  if (route.copy == NULL) {
    no_nccl();
    return (struct call){.real = NULL};
  }
  struct call call = {.real = &route.copy->nccl, .version = route.copy->version, .outermost = true};
  inside = call.real;
  if (!route.copy->exact && !route.own_text) call.core = slimccl_core();
  return call;
}

static void leave(const struct call* call) {
  if (call->outermost) inside = NULL;
}

#define SLIMCCL_HOOKED __attribute__((visibility("default")))
#define SLIMCCL_LIST(...) __VA_ARGS__
#define SLIMCCL_HOOK(NAME, TO_CORE, TO_REAL, ...)                                     \
  SLIMCCL_HOOKED ncclResult_t nccl##NAME(__VA_ARGS__) {                               \
    const struct call call = enter(__builtin_return_address(0));                      \
    if (call.real == NULL) return ncclSystemError;                                    \
    ncclResult_t result;                                                              \
    if (call.real->NAME == NULL)                                                      \
      result = lacks(&call, "nccl" #NAME);                                            \
    else                                                                              \
      result = call.core != NULL ? call.core->NAME TO_CORE : call.real->NAME TO_REAL; \
    leave(&call);                                                                     \
    return result;                                                                    \
  }
#define SLIMCCL_WITH_ARGUMENTS(NAME, ARGUMENTS, ...) \
  SLIMCCL_HOOK(NAME, (call.real, SLIMCCL_LIST ARGUMENTS), ARGUMENTS, __VA_ARGS__)

SLIMCCL_HOOKS(SLIMCCL_WITH_ARGUMENTS)
SLIMCCL_HOOK(GroupStart, (call.real), (), void)
SLIMCCL_HOOK(GroupEnd, (call.real), (), void)

SLIMCCL_HOOKED const char* ncclGetLastError(ncclComm_t comm) {
  if (failure != NULL && inside == NULL) return failure;
  const struct call call = enter(__builtin_return_address(0));
  const char* text = failure; /* of a search that found no NCCL */
  if (call.real != NULL && call.core != NULL)
    text = call.core->GetLastError(call.real, comm);
  else if (call.real != NULL)
    text = call.real->GetLastError == NULL ? "" : call.real->GetLastError(comm);
  leave(&call);
  return text;
}

/* Without a core nothing is compressed that could be paused. */
#define SLIMCCL_OWN_CALL(NAME)                           \
  SLIMCCL_HOOKED ncclResult_t slimccl##NAME(void) {      \
    if (inside == NULL && failure != NULL) fail(NULL);   \
    const struct slimccl_overlay* core = slimccl_core(); \
    return core == NULL ? ncclSuccess : core->NAME();    \
  }
SLIMCCL_OWN(SLIMCCL_OWN_CALL)
