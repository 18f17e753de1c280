/* What the files of the stub share. The stub is loaded into every program that a job starts, so it
 * has no constructor, no thread, no output and allocates nothing until the first hooked call. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "overlay.h"

/* One copy of the real NCCL as hooks know it. Lives until the process ends. */
struct slimccl_copy {
  struct slimccl_nccl nccl;
  int version; /* 0: the copy does not tell */
  bool exact;  /* too old for the core: calls are forwarded as they are */
};

/* What is known of one calling library. */
struct slimccl_route {
  const struct slimccl_copy* copy; /* null: no NCCL was found */
  bool own_text; /* the caller is that copy's own file: it means itself, and nobody else */
};

/* Which copy code at `caller` means (docs/adr/0014): what the dynamic linker would have bound it to
 * without the stub. Some nanoseconds for a caller that is known; no locks are held while libraries
 * are searched. Any thread. */
struct slimccl_route slimccl_find(const void* caller);

/* The core, loaded from beside the stub at the first call; null if there is none to be used: calls
 * are exact then, and the reason was told once. Any thread, and after a fork. */
const struct slimccl_overlay* slimccl_core(void);

/* SLIMCCL_OVERLAY=off: all is forwarded, and nothing said. */
bool slimccl_off(void);

/* A lock that is held for moments. A fork may copy it held: it knows the process that holds it.
 * False if it was not free for 10 seconds. */
struct slimccl_lock {
  _Atomic int holder;
};
bool slimccl_acquire(struct slimccl_lock* lock);
void slimccl_release(struct slimccl_lock* lock);

/* One line on stderr, as src/base/log.h writes them; not with SLIMCCL_LOG=none. */
__attribute__((format(printf, 1, 2))) void slimccl_warn(const char* format, ...);
