// NCCL's C interface, declared in our own words and ABI-equal to nccl.h 2.28.9, for machines
// without the CUDA toolkit. Include either this file or NVIDIA's, never both. Names keep NCCL's
// spelling; so do the values.
//
// Buffers are host memory. `count`s are elements of `datatype`, never bytes; with count 0 a
// collective only checks its arguments.
// Results: every function returns ncclSuccess or an error; ncclGetLastError(NULL) then says what
// was wrong and what to do. Streams: with `stream` NULL a call returns when its result is there.
// Otherwise it is a stream of slimcclStreamCreate (slimccl/slimccl.h): the call returns once
// queued, buffers must stay until the stream has been waited for. Operations of one communicator
// run in call order, across streams too. Non-blocking communicators (config.blocking = 0): any call
// may return ncclInProgress; then poll ncclCommGetAsyncError until it says something else. Threads:
// calls on different communicators may come from different threads; one communicator is used by one
// thread at a time, except ncclCommAbort and ncclCommGetAsyncError, which any thread may call at
// any time. Arithmetic: ncclAvg of floats multiplies by 1/ranks before the sum; of integers it
// divides the sum at the end, toward zero. ncclMin and ncclMax keep a NaN. A sum that overflows an
// fp8 gives infinity (e5m2) or NaN (e4m3).
#pragma once

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#define NCCL_MAJOR 2
#define NCCL_MINOR 28
#define NCCL_PATCH 9
#define NCCL_SUFFIX ""
#define NCCL_VERSION(x, y, z) \
  (((x) <= 2 && (y) <= 8) ? (x)*1000 + (y)*100 + (z) : (x)*10000 + (y)*100 + (z))
#define NCCL_VERSION_CODE 22809

#define NCCL_UNIQUE_ID_BYTES 128
#define NCCL_COMM_NULL NULL
#define NCCL_CONFIG_UNDEF_INT INT_MIN
#define NCCL_CONFIG_UNDEF_PTR NULL
#define NCCL_UNDEF_FLOAT -1.0f
#define NCCL_SPLIT_NOCOLOR -1
#define NCCL_SHRINK_DEFAULT 0x00
#define NCCL_SHRINK_ABORT 0x01
#define NCCL_REVOKE_DEFAULT 0x00
#define NCCL_WIN_DEFAULT 0x00
#define NCCL_WIN_COLL_SYMMETRIC 0x01
#define NCCL_WIN_REQUIRED_ALIGNMENT 4096
#define NCCL_CTA_POLICY_DEFAULT 0x00
#define NCCL_CTA_POLICY_EFFICIENCY 0x01
#define NCCL_CTA_POLICY_ZERO 0x02

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CUstream_st* cudaStream_t;
typedef struct ncclComm* ncclComm_t;
typedef struct ncclWindow_vidmem* ncclWindow_t;

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

typedef enum { ncclNumOps_dummy = 5 } ncclRedOp_dummy_t;
typedef enum {
  ncclSum = 0,
  ncclProd = 1,
  ncclMax = 2,
  ncclMin = 3,
  ncclAvg = 4,
  ncclNumOps = 5,  // built-in ones are below; those of ncclRedOpCreatePreMulSum at or above
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

// How a communicator is made. Start from NCCL_CONFIG_INITIALIZER; what stays undefined has its
// default. `blocking` and `commName` are used; the rest steers GPUs and networks of NCCL's, is
// accepted, and changes nothing.
typedef struct ncclConfig_v22800 {
  size_t size;  // these three are the initializer's
  unsigned int magic;
  unsigned int version;
  int blocking;  // 1 (default): calls wait; 0: they may return ncclInProgress
  int cgaClusterSize;
  int minCTAs;
  int maxCTAs;
  const char* netName;
  int splitShare;
  int trafficClass;
  const char* commName;  // for messages
  int collnetEnable;
  int CTAPolicy;
  int shrinkShare;
  int nvlsCTAs;
  int nChannelsPerNetPeer;
  int nvlinkCentricSched;
} ncclConfig_t;

#define NCCL_CONFIG_INITIALIZER                                                                \
  {                                                                                            \
    sizeof(ncclConfig_t), 0xcafebeef, NCCL_VERSION_CODE, NCCL_CONFIG_UNDEF_INT, /* blocking */ \
        NCCL_CONFIG_UNDEF_INT, /* cgaClusterSize */                                            \
        NCCL_CONFIG_UNDEF_INT, /* minCTAs */                                                   \
        NCCL_CONFIG_UNDEF_INT, /* maxCTAs */                                                   \
        NCCL_CONFIG_UNDEF_PTR, /* netName */                                                   \
        NCCL_CONFIG_UNDEF_INT, /* splitShare */                                                \
        NCCL_CONFIG_UNDEF_INT, /* trafficClass */                                              \
        NCCL_CONFIG_UNDEF_PTR, /* commName */                                                  \
        NCCL_CONFIG_UNDEF_INT, /* collnetEnable */                                             \
        NCCL_CONFIG_UNDEF_INT, /* CTAPolicy */                                                 \
        NCCL_CONFIG_UNDEF_INT, /* shrinkShare */                                               \
        NCCL_CONFIG_UNDEF_INT, /* nvlsCTAs */                                                  \
        NCCL_CONFIG_UNDEF_INT, /* nChannelsPerNetPeer */                                       \
        NCCL_CONFIG_UNDEF_INT, /* nvlinkCentricSched */                                        \
  }

// What ncclGroupSimulateEnd says. Start from NCCL_SIM_INFO_INITIALIZER.
typedef struct ncclSimInfo_v22200 {
  size_t size;  // these three are the initializer's
  unsigned int magic;
  unsigned int version;
  float estimatedTime;  // microseconds; NCCL_UNDEF_FLOAT: not known
} ncclSimInfo_t;

#define NCCL_SIM_INFO_INITIALIZER \
  { sizeof(ncclSimInfo_t), 0x74685283, NCCL_VERSION_CODE, NCCL_UNDEF_FLOAT }

// --- The library ---

// version: NCCL_VERSION_CODE of the interface that this library implements.
ncclResult_t ncclGetVersion(int* version);
// A constant text for a result; never null.
const char* ncclGetErrorString(ncclResult_t result);
// The text of the last error in this process; `comm` may be null. The text stays valid until this
// thread's next call.
const char* ncclGetLastError(ncclComm_t comm);
// Does nothing: settings are read once.
__attribute__((deprecated("NCCL will remove it"))) void ncclResetDebugInit(void);
__attribute__((deprecated("NCCL will remove it"))) void pncclResetDebugInit(void);

// Page-aligned host memory, at least `size` bytes; give it back with ncclMemFree. Any other host
// memory serves as well.
ncclResult_t ncclMemAlloc(void** ptr, size_t size);
ncclResult_t ncclMemFree(void* ptr);

// --- Making communicators. *comm belongs to the caller, until Destroy or Abort. ---

// Makes an id and starts listening for the ranks that will use it. The calling process must stay
// alive until every rank's ncclCommInitRank has returned.
ncclResult_t ncclGetUniqueId(ncclUniqueId* uniqueId);
// Collective over `nranks` callers, each with its own `rank` in [0, nranks). Blocks until all have
// come; a rank that never comes is named after SLIMCCL_SETUP_TIMEOUT_S. In a group, one thread can
// make several ranks: *comm is there after ncclGroupEnd.
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int nranks, ncclUniqueId commId, int rank);
// The same, with `config` (may be null: defaults).
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId commId, int rank,
                                    ncclConfig_t* config);
// The same with `nId` ids, equal and in equal order on all ranks: more than one place to meet at.
ncclResult_t ncclCommInitRankScalable(ncclComm_t* newcomm, int nranks, int myrank, int nId,
                                      ncclUniqueId* commIds, ncclConfig_t* config);
// A communicator of `ndev` ranks, all in this process; `comm` has room for ndev handles. devlist
// (ndev numbers, or null) is only what ncclCommCuDevice answers.
ncclResult_t ncclCommInitAll(ncclComm_t* comm, int ndev, const int* devlist);
// Collective over comm. Ranks with equal `color` (>= 0) make a communicator, ordered by `key`, then
// by rank; with NCCL_SPLIT_NOCOLOR *newcomm is null. config null: as the parent's.
ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* newcomm,
                           ncclConfig_t* config);
// A communicator without the listed ranks, in the old order. Collective over the others only; the
// excluded do not call. With NCCL_SHRINK_ABORT operations under way fail first, and it works after
// a rank was killed. config null: as the parent's.
ncclResult_t ncclCommShrink(ncclComm_t comm, int* excludeRanksList, int excludeRanksCount,
                            ncclComm_t* newcomm, ncclConfig_t* config, int shrinkFlags);

// --- Their end ---

// Collective. Waits for operations under way; then ncclCommDestroy need not wait.
ncclResult_t ncclCommFinalize(ncclComm_t comm);
// Waits for operations under way, then frees. `comm` must not be used afterwards (a use is an
// error, not a crash).
ncclResult_t ncclCommDestroy(ncclComm_t comm);
// Frees at once, operations under way fail. For use after an error, from any thread.
ncclResult_t ncclCommAbort(ncclComm_t comm);
// Operations under way fail, and later ones return ncclInvalidUsage; split, shrink, destroy and
// abort are still possible. revokeFlags: NCCL_REVOKE_DEFAULT.
ncclResult_t ncclCommRevoke(ncclComm_t comm, int revokeFlags);

// --- Questions about them ---

// *asyncError: ncclSuccess; ncclInProgress; or why operations on this communicator can no longer
// succeed (a dead peer, a time-out).
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* asyncError);
ncclResult_t ncclCommCount(const ncclComm_t comm, int* count);
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank);
// *device: -1, unless ncclCommInitAll was given a devlist.
ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device);

// Accepted, and does nothing: host memory needs no registration. *handle is for ncclCommDeregister.
ncclResult_t ncclCommRegister(const ncclComm_t comm, void* buff, size_t size, void** handle);
ncclResult_t ncclCommDeregister(const ncclComm_t comm, void* handle);
// Not supported (ncclInvalidUsage): windows are device memory.
ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void* buff, size_t size, ncclWindow_t* win,
                                    int winFlags);
ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t win);

// --- Reductions of one's own ---

// An operation "multiply by this rank's scalar, then sum". `scalar` has type `datatype` and may
// differ between ranks.
ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* scalar, ncclDataType_t datatype,
                                      ncclScalarResidence_t residence, ncclComm_t comm);
// May be called as soon as the last call that was given `op` has returned.
ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t comm);

// --- Collectives. Any overlap of sendbuff and recvbuff but the in-place form is an error. ---

// recvbuff (nranks * sendcount elements) := every rank's sendbuff (sendcount elements), in rank
// order. In place: sendbuff == recvbuff + rank * sendcount.
ncclResult_t ncclAllGather(const void* sendbuff, void* recvbuff, size_t sendcount,
                           ncclDataType_t datatype, ncclComm_t comm, cudaStream_t stream);
// recvbuff (recvcount elements) := rank's slice of the reduction over all sendbuffs (nranks *
// recvcount elements). In place: recvbuff == sendbuff + rank * recvcount.
ncclResult_t ncclReduceScatter(const void* sendbuff, void* recvbuff, size_t recvcount,
                               ncclDataType_t datatype, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream);
// recvbuff (count elements) := the reduction over all sendbuffs (count elements); the same bits on
// every rank. In place: recvbuff == sendbuff.
ncclResult_t ncclAllReduce(const void* sendbuff, void* recvbuff, size_t count,
                           ncclDataType_t datatype, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream);
// As ncclAllReduce, but only `root` has the result; others' recvbuff is not used and may be null.
ncclResult_t ncclReduce(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream);
// recvbuff := root's sendbuff (count elements each); others' sendbuff is not used. In place:
// recvbuff == sendbuff.
ncclResult_t ncclBroadcast(const void* sendbuff, void* recvbuff, size_t count,
                           ncclDataType_t datatype, int root, ncclComm_t comm, cudaStream_t stream);
// ncclBroadcast in place.
ncclResult_t ncclBcast(void* buff, size_t count, ncclDataType_t datatype, int root, ncclComm_t comm,
                       cudaStream_t stream);
// Slice i of recvbuff := rank i's slice of sendbuff for this rank; both hold nranks slices of count
// elements. There is no in-place form.
ncclResult_t ncclAlltoAll(const void* sendbuff, void* recvbuff, size_t count,
                          ncclDataType_t datatype, ncclComm_t comm, cudaStream_t stream);
// root's recvbuff (nranks * count elements) := every rank's sendbuff (count elements), in rank
// order; others' recvbuff is not used. In place at root: sendbuff == recvbuff + root * count.
ncclResult_t ncclGather(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype,
                        int root, ncclComm_t comm, cudaStream_t stream);
// recvbuff (count elements) := this rank's slice of root's sendbuff (nranks * count elements);
// others' sendbuff is not used. In place at root: recvbuff == sendbuff + root * count.
ncclResult_t ncclScatter(const void* sendbuff, void* recvbuff, size_t count,
                         ncclDataType_t datatype, int root, ncclComm_t comm, cudaStream_t stream);

// --- Point to point ---

// One message of `count` elements to, or from, rank `peer`. Between two ranks the n-th send meets
// the n-th receive; counts and types must be equal. Alone it waits for the peer's call: messages
// that cross, or go to oneself, belong into one group.
ncclResult_t ncclSend(const void* sendbuff, size_t count, ncclDataType_t datatype, int peer,
                      ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclRecv(void* recvbuff, size_t count, ncclDataType_t datatype, int peer,
                      ncclComm_t comm, cudaStream_t stream);

// --- Groups: calls of this thread between Start and End become one. They may be nested (the
// outermost counts), and span communicators, but not mix making communicators with using them. ---

ncclResult_t ncclGroupStart(void);
// Runs the group. An argument error is returned by the call that has it, at once; the group then
// runs nothing and ncclGroupEnd returns that error. All other errors are ncclGroupEnd's.
ncclResult_t ncclGroupEnd(void);
// Ends the group and runs nothing of it; fills *simInfo (may be null).
ncclResult_t ncclGroupSimulateEnd(ncclSimInfo_t* simInfo);

// --- Names that came after 2.28.9. Programs built against later releases find them when they are
// loaded; none is supported: each returns ncclInvalidUsage and says what to do instead. ---

#define NCCL_SUSPEND_MEM 0x01

typedef enum {
  ncclStatGpuMemSuspend = 0,
  ncclStatGpuMemSuspended = 1,
  ncclStatGpuMemPersist = 2,
  ncclStatGpuMemTotal = 3
} ncclCommMemStat_t;

typedef struct {
  int opCnt;
  int peer;
  int sigIdx;
  int ctx;
} ncclWaitSignalDesc_t;

// 2.29
ncclResult_t ncclCommGetUniqueId(ncclComm_t comm, ncclUniqueId* uniqueId);
ncclResult_t ncclCommGrow(ncclComm_t comm, int nRanks, const ncclUniqueId* uniqueId, int rank,
                          ncclComm_t* newcomm, ncclConfig_t* config);
ncclResult_t ncclPutSignal(const void* localbuff, size_t count, ncclDataType_t datatype, int peer,
                           ncclWindow_t peerWin, size_t peerWinOffset, int sigIdx, int ctx,
                           unsigned int flags, ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclSignal(int peer, int sigIdx, int ctx, unsigned int flags, ncclComm_t comm,
                        cudaStream_t stream);
ncclResult_t ncclWaitSignal(int nDesc, ncclWaitSignalDesc_t* signalDescs, ncclComm_t comm,
                            cudaStream_t stream);
ncclResult_t ncclWinGetUserPtr(ncclComm_t comm, ncclWindow_t win, void** outUserPtr);
// 2.29.7
ncclResult_t ncclCommSuspend(ncclComm_t comm, int flags);
ncclResult_t ncclCommResume(ncclComm_t comm);
ncclResult_t ncclCommMemStats(ncclComm_t comm, ncclCommMemStat_t stat, uint64_t* value);

// --- pncclX is ncclX under a second name, for tools that put their own ncclX in front. ---

// clang-format off
#define NCCL_TWIN(name) __typeof__(nccl##name) pnccl##name;
NCCL_TWIN(GetVersion) NCCL_TWIN(GetErrorString) NCCL_TWIN(GetLastError) NCCL_TWIN(MemAlloc)
NCCL_TWIN(MemFree) NCCL_TWIN(GetUniqueId) NCCL_TWIN(CommInitRank) NCCL_TWIN(CommInitRankConfig)
NCCL_TWIN(CommInitRankScalable) NCCL_TWIN(CommInitAll) NCCL_TWIN(CommSplit) NCCL_TWIN(CommShrink)
NCCL_TWIN(CommFinalize) NCCL_TWIN(CommDestroy) NCCL_TWIN(CommAbort) NCCL_TWIN(CommRevoke)
NCCL_TWIN(CommGetAsyncError) NCCL_TWIN(CommCount) NCCL_TWIN(CommUserRank) NCCL_TWIN(CommCuDevice)
NCCL_TWIN(CommRegister) NCCL_TWIN(CommDeregister) NCCL_TWIN(CommWindowRegister)
NCCL_TWIN(CommWindowDeregister) NCCL_TWIN(RedOpCreatePreMulSum) NCCL_TWIN(RedOpDestroy)
NCCL_TWIN(AllGather) NCCL_TWIN(ReduceScatter) NCCL_TWIN(AllReduce) NCCL_TWIN(Reduce)
NCCL_TWIN(Broadcast) NCCL_TWIN(Bcast) NCCL_TWIN(AlltoAll) NCCL_TWIN(Gather) NCCL_TWIN(Scatter)
NCCL_TWIN(Send) NCCL_TWIN(Recv) NCCL_TWIN(GroupStart) NCCL_TWIN(GroupEnd)
NCCL_TWIN(GroupSimulateEnd) NCCL_TWIN(CommGetUniqueId) NCCL_TWIN(CommGrow) NCCL_TWIN(PutSignal)
NCCL_TWIN(Signal) NCCL_TWIN(WaitSignal) NCCL_TWIN(WinGetUserPtr) NCCL_TWIN(CommSuspend)
NCCL_TWIN(CommResume) NCCL_TWIN(CommMemStats)
#undef NCCL_TWIN
// clang-format on

#ifdef __cplusplus
}
#endif
