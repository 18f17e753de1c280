// SlimCCL's own few functions beside NCCL's. C interface; host memory; thread rules as in
// slimccl/nccl.h.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "slimccl/nccl.h"

#ifdef __cplusplus
extern "C" {
#endif

// "0.1.0"; never null.
const char* slimcclVersion(void);

// What one rank of a communicator has done so far. Bytes are payload bytes that this rank handed to
// a transport.
typedef struct {
  size_t size;     // set by the caller to sizeof(slimcclStats_t): how newer fields are told apart
  uint64_t calls;  // collectives finished
  uint64_t compressed_calls;     // of these, with at least one quantized hop
  uint64_t bytes_between_nodes;  // sent to ranks of other nodes
  uint64_t bytes_in_node;        // sent to ranks of the same node
  uint64_t
      exact_bytes_between_nodes;  // what the same calls would have sent in the tensors' own types
  uint64_t transfers;  // messages of grouped send and receive calls, copies to oneself included
} slimcclStats_t;

// Fills *stats. May be called from any thread while the communicator lives.
ncclResult_t slimcclGetStats(ncclComm_t comm, slimcclStats_t* stats);

// Writes a text that says how `comm` would carry a call: plan, codecs, bytes, and why. `op` is
// "all_gather", "reduce_scatter", "all_reduce", "broadcast" or "reduce" (root 0); `count` as in the
// call. At most `capacity` bytes including the final 0.
ncclResult_t slimcclExplain(ncclComm_t comm, const char* op, size_t count, ncclDataType_t type,
                            char* text, size_t capacity);

// A trainer's word on compression, for all communicators of the process. Every rank makes these
// calls at the same place between its collective calls, for all ranks carry a call alike. The
// preloaded overlay has them too: a program that is not linked to this library finds them by
// dlsym(RTLD_DEFAULT, "slimcclPause"). Any thread.
//
// Until the matching Resume, collectives are exact; what was called before is carried as it was.
// Pauses nest. They count per process, not per rank: call each once per process, when none of its
// ranks (threads) is between calls.
ncclResult_t slimcclPause(void);
// ncclInvalidUsage if nothing is paused.
ncclResult_t slimcclResume(void);
// An optimizer step has ended. It is counted; nothing depends on it yet.
ncclResult_t slimcclStep(void);

// A stream: operations given it are queued and run in order, on threads of ours. NCCL's calls take
// it as their `stream`; it is no CUDA stream. Any thread may use it; it belongs to the caller,
// until Destroy. In the three others a handle that is no living stream, null too, is
// ncclInvalidArgument.
ncclResult_t slimcclStreamCreate(cudaStream_t* stream);
// Waits until all that was queued before has run. Returns the first error of what ran on the stream
// since the last call of this function.
ncclResult_t slimcclStreamSynchronize(cudaStream_t stream);
// Does not wait: ncclSuccess (nothing is left), ncclInProgress, or that error.
ncclResult_t slimcclStreamQuery(cudaStream_t stream);
// Waits for the stream's work, then frees it.
ncclResult_t slimcclStreamDestroy(cudaStream_t stream);

#ifdef __cplusplus
}
#endif
