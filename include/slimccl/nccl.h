// NCCL's C interface, declared in our own words and ABI-equal to nccl.h 2.28.9, for machines
// without the CUDA toolkit. Include either this file or NVIDIA's, never both. Names keep NCCL's
// spelling; so do the values.
//
// Here the buffers are host memory. `stream` must be null for now: the call returns when its result
// is there. Threads: calls on different communicators may come from different threads; one
// communicator is used by one thread at a time, except ncclCommAbort and ncclCommGetAsyncError,
// which any thread may call at any time. Every function returns ncclSuccess or an error;
// ncclGetLastError(NULL) then says what was wrong and what to do.
#pragma once

#include <limits.h>
#include <stddef.h>

#define NCCL_MAJOR 2
#define NCCL_MINOR 28
#define NCCL_PATCH 9
#define NCCL_SUFFIX ""
#define NCCL_VERSION(x, y, z) \
  (((x) <= 2 && (y) <= 8) ? (x)*1000 + (y)*100 + (z) : (x)*10000 + (y)*100 + (z))
#define NCCL_VERSION_CODE NCCL_VERSION(NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH)
#define NCCL_UNIQUE_ID_BYTES 128

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CUstream_st* cudaStream_t;
typedef struct ncclComm* ncclComm_t;
#define NCCL_COMM_NULL NULL

// What a new communicator's ranks share to find each other: made by one of them, carried to the
// others by any means.
typedef struct {
  char internal[NCCL_UNIQUE_ID_BYTES];
} ncclUniqueId;

typedef enum {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7,
  ncclNumResults = 8
} ncclResult_t;

typedef enum {
  ncclSum = 0,
  ncclProd = 1,
  ncclMax = 2,
  ncclMin = 3,
  ncclAvg = 4,
  ncclNumOps =
      5,  // built-in operations are below; ids made by ncclRedOpCreatePreMulSum are at or above
  ncclMaxRedOp = 0x7fffffff
} ncclRedOp_t;

typedef enum {
  ncclInt8 = 0,
  ncclChar = 0,
  ncclUint8 = 1,
  ncclInt32 = 2,
  ncclInt = 2,
  ncclUint32 = 3,
  ncclInt64 = 4,
  ncclUint64 = 5,
  ncclFloat16 = 6,
  ncclHalf = 6,
  ncclFloat32 = 7,
  ncclFloat = 7,
  ncclFloat64 = 8,
  ncclDouble = 8,
  ncclBfloat16 = 9,
  ncclFloat8e4m3 = 10,
  ncclFloat8e5m2 = 11,
  ncclNumTypes = 12
} ncclDataType_t;

// Where the scalar of a PreMulSum lies: on the device (read when the operation runs) or on the host
// (read at once).
typedef enum { ncclScalarDevice = 0, ncclScalarHostImmediate = 1 } ncclScalarResidence_t;

// version: NCCL_VERSION_CODE of the interface that this library implements.
ncclResult_t ncclGetVersion(int* version);
// A constant text for a result; never null.
const char* ncclGetErrorString(ncclResult_t result);
// The text of the last error in this process; `comm` may be null. The text stays valid until this
// thread's next call.
const char* ncclGetLastError(ncclComm_t comm);

// Makes an id and starts listening for the ranks that will use it. The calling process must stay
// alive until every rank's ncclCommInitRank has returned.
ncclResult_t ncclGetUniqueId(ncclUniqueId* uniqueId);
// Collective over `nranks` callers, each with its own `rank` in [0, nranks). Blocks until all have
// come; a rank that never comes is named after SLIMCCL_SETUP_TIMEOUT_S. *comm belongs to the
// caller, until Destroy or Abort.
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int nranks, ncclUniqueId commId, int rank);
// Waits for operations under way, then frees. `comm` must not be used afterwards (a use is an
// error, not a crash).
ncclResult_t ncclCommDestroy(ncclComm_t comm);
// Frees at once, operations under way fail. For use after an error, from any thread.
ncclResult_t ncclCommAbort(ncclComm_t comm);
// *asyncError: ncclSuccess, or why operations on this communicator can no longer succeed (a dead
// peer, a time-out).
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* asyncError);
ncclResult_t ncclCommCount(const ncclComm_t comm, int* count);
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank);

// An operation "multiply by this rank's scalar, then sum". `scalar` has type `datatype` and may
// differ between ranks.
ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* scalar, ncclDataType_t datatype,
                                      ncclScalarResidence_t residence, ncclComm_t comm);
ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t comm);

// recvbuff (nranks * sendcount elements) := every rank's sendbuff (sendcount elements), in rank
// order. In place: sendbuff == recvbuff + rank * sendcount. Any other overlap is an error.
ncclResult_t ncclAllGather(const void* sendbuff, void* recvbuff, size_t sendcount,
                           ncclDataType_t datatype, ncclComm_t comm, cudaStream_t stream);
// recvbuff (recvcount elements) := rank's slice of the reduction over all sendbuffs (nranks *
// recvcount elements). In place: recvbuff == sendbuff + rank * recvcount. Any other overlap is an
// error.
ncclResult_t ncclReduceScatter(const void* sendbuff, void* recvbuff, size_t recvcount,
                               ncclDataType_t datatype, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream);
// recvbuff (count elements) := the reduction over all sendbuffs (count elements); the same bits on
// every rank. In place: recvbuff == sendbuff. Any other overlap is an error.
ncclResult_t ncclAllReduce(const void* sendbuff, void* recvbuff, size_t count,
                           ncclDataType_t datatype, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream);

#ifdef __cplusplus
}
#endif
