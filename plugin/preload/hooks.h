/* The functions of NCCL that the preloaded file takes: the one list from which its exports, the
 * table of the real functions and the core's table are made. C and C++. */
#pragma once

#include "slimccl/slimccl.h"

/* X(NAME, (arguments), parameters...) for each ncclNAME that returns an ncclResult_t and takes
 * something. In the order of nccl.h. */
#define SLIMCCL_HOOKS(X)                                                                           \
  X(GetUniqueId, (id), ncclUniqueId* id)                                                           \
  X(CommInitRankConfig, (comm, ranks, id, rank, config), ncclComm_t* comm, int ranks,              \
    ncclUniqueId id, int rank, ncclConfig_t* config)                                               \
  X(CommInitRank, (comm, ranks, id, rank), ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) \
  X(CommInitAll, (comms, devices, list), ncclComm_t* comms, int devices, const int* list)          \
  X(CommInitRankScalable, (comm, ranks, rank, ids, id, config), ncclComm_t* comm, int ranks,       \
    int rank, int ids, ncclUniqueId* id, ncclConfig_t* config)                                     \
  X(CommFinalize, (comm), ncclComm_t comm)                                                         \
  X(CommDestroy, (comm), ncclComm_t comm)                                                          \
  X(CommAbort, (comm), ncclComm_t comm)                                                            \
  X(CommSplit, (comm, color, key, child, config), ncclComm_t comm, int color, int key,             \
    ncclComm_t* child, ncclConfig_t* config)                                                       \
  X(CommShrink, (comm, excluded, count, child, config, flags), ncclComm_t comm, int* excluded,     \
    int count, ncclComm_t* child, ncclConfig_t* config, int flags)                                 \
  X(CommRevoke, (comm, flags), ncclComm_t comm, int flags)                                         \
  X(CommWindowRegister, (comm, buffer, bytes, window, flags), ncclComm_t comm, void* buffer,       \
    size_t bytes, ncclWindow_t* window, int flags)                                                 \
  X(CommWindowDeregister, (comm, window), ncclComm_t comm, ncclWindow_t window)                    \
  X(RedOpCreatePreMulSum, (op, scalar, type, residence, comm), ncclRedOp_t* op, void* scalar,      \
    ncclDataType_t type, ncclScalarResidence_t residence, ncclComm_t comm)                         \
  X(RedOpDestroy, (op, comm), ncclRedOp_t op, ncclComm_t comm)                                     \
  X(Reduce, (from, into, count, type, op, root, comm, stream), const void* from, void* into,       \
    size_t count, ncclDataType_t type, ncclRedOp_t op, int root, ncclComm_t comm,                  \
    cudaStream_t stream)                                                                           \
  X(Bcast, (buffer, count, type, root, comm, stream), void* buffer, size_t count,                  \
    ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream)                           \
  X(Broadcast, (from, into, count, type, root, comm, stream), const void* from, void* into,        \
    size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream)             \
  X(AllReduce, (from, into, count, type, op, comm, stream), const void* from, void* into,          \
    size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)       \
  X(ReduceScatter, (from, into, count, type, op, comm, stream), const void* from, void* into,      \
    size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)       \
  X(AllGather, (from, into, count, type, comm, stream), const void* from, void* into,              \
    size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream)                       \
  X(AlltoAll, (from, into, count, type, comm, stream), const void* from, void* into, size_t count, \
    ncclDataType_t type, ncclComm_t comm, cudaStream_t stream)                                     \
  X(Gather, (from, into, count, type, root, comm, stream), const void* from, void* into,           \
    size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream)             \
  X(Scatter, (from, into, count, type, root, comm, stream), const void* from, void* into,          \
    size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream)             \
  X(Send, (from, count, type, peer, comm, stream), const void* from, size_t count,                 \
    ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)                           \
  X(Recv, (into, count, type, peer, comm, stream), void* into, size_t count, ncclDataType_t type,  \
    int peer, ncclComm_t comm, cudaStream_t stream)                                                \
  X(GroupSimulateEnd, (info), ncclSimInfo_t* info)

/* Taken as well: ncclGroupStart(void), ncclGroupEnd(void) and ncclGetLastError(comm). */

/* SlimCCL's own names, which trainers find by dlsym: slimcclNAME(void). */
#define SLIMCCL_OWN(X) X(Pause) X(Resume) X(Step)

/* Not taken, but the core asks them of the real library. */
#define SLIMCCL_ASKED(X) \
  X(GetVersion) X(GetErrorString) X(CommGetAsyncError) X(CommCount) X(CommUserRank) X(CommCuDevice)
