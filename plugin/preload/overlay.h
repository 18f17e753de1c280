/* What the preloaded file (the stub, C, libc only) and the core (libslimccl-core.so, C++) tell each
 * other. The stub finds the real NCCL that a caller means, guards against re-entry, and gives each
 * hooked call to the core together with that real NCCL; the core forwards it. Both come from one
 * build: another number is refused. */
#pragma once

#include <stdint.h>

#include "hooks.h"

#define SLIMCCL_OVERLAY_ABI 2

#ifdef __cplusplus
extern "C" {
#endif

/* One copy of the real NCCL in this process. Made by the stub, lives until the process ends. A
 * function that this copy does not have is null. */
struct slimccl_nccl {
  const char* path; /* the file it lies in, for messages */
#define SLIMCCL_REAL(NAME, ARGUMENTS, ...) __typeof__(&nccl##NAME) NAME;
  SLIMCCL_HOOKS(SLIMCCL_REAL)
#undef SLIMCCL_REAL
#define SLIMCCL_REAL(NAME) __typeof__(&nccl##NAME) NAME;
  SLIMCCL_REAL(GroupStart)
  SLIMCCL_REAL(GroupEnd)
  SLIMCCL_REAL(GetLastError)
  SLIMCCL_ASKED(SLIMCCL_REAL)
#undef SLIMCCL_REAL
};

/* The core's side: what the stub calls in a hook's place, with the real NCCL in front, and without
 * one for SlimCCL's own names, which concern the process. Never throws, and never calls a hooked
 * name but through `real`. Any thread. */
struct slimccl_overlay {
#define SLIMCCL_CORE(NAME, ARGUMENTS, ...) \
  ncclResult_t (*NAME)(const struct slimccl_nccl* real, __VA_ARGS__);
  SLIMCCL_HOOKS(SLIMCCL_CORE)
#undef SLIMCCL_CORE
  ncclResult_t (*GroupStart)(const struct slimccl_nccl* real);
  ncclResult_t (*GroupEnd)(const struct slimccl_nccl* real);
  const char* (*GetLastError)(const struct slimccl_nccl* real, ncclComm_t comm);
#define SLIMCCL_CORE(NAME) ncclResult_t (*NAME)(void);
  SLIMCCL_OWN(SLIMCCL_CORE)
#undef SLIMCCL_CORE
};

/* The one name that the core exports. Null if it cannot serve: *why says why, in one line, and
 * stays valid. `version` is the stub's SLIMCCL_VERSION. Called once per process. */
typedef const struct slimccl_overlay* slimccl_overlay_open_fn(uint32_t abi, const char* version,
                                                              const char** why);
slimccl_overlay_open_fn slimccl_overlay_open;

#ifdef __cplusplus
}
#endif
