/* What was found, kept: a table of callers' address ranges that is read without a lock, and the
 * copies of NCCL that they mean. */
#pragma once

#include <stdint.h>

#include "stub.h"

/* False: nothing is known of this address yet. */
bool slimccl_known(uintptr_t caller, struct slimccl_route* route);

/* The copy that was called first; null: none yet. */
const struct slimccl_copy* slimccl_first(void);

/* Keeps that callers in [start, end) mean `copy`, which is copied unless an equal one is there.
 * With start 0 (code of no library) or a full table only the copy is kept. Says once of a copy that
 * it is too old. No copy in the answer: there are more than the table has room for. */
struct slimccl_route slimccl_learn(uintptr_t start, uintptr_t end, const struct slimccl_copy* copy,
                                   bool own_text);
