// The host half of NCCL's nccl_device.h 2.28.9, ABI-equal, in our own words. There is no device
// half: buffers are host memory. Teams answer; all else is refused with ncclInvalidUsage, and
// declared so that programs which name it can be loaded. Include either this file or NVIDIA's,
// never both.
#pragma once

#include "slimccl/nccl.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ncclDevComm ncclDevComm_t;
typedef struct ncclDevCommRequirements ncclDevCommRequirements_t;
typedef struct ncclDevResourceRequirements ncclDevResourceRequirements_t;
typedef struct ncclLsaBarrierHandle ncclLsaBarrierHandle_t;
typedef struct ncclGinBarrierHandle ncclGinBarrierHandle_t;
typedef struct ncclLLA2AHandle ncclLLA2AHandle_t;

// Some of a communicator's ranks: the i-th is `stride` times (i - rank) away from this one.
typedef struct ncclTeam {
  int nRanks, rank, stride;
} ncclTeam_t;

// All ranks; those of this rank's local team; those at this rank's place in every local team. Local
// teams are equal, contiguous, within a node, and as large as that allows: with nodes of 4 and 2
// ranks, of 2. {0, 0, 0} with a bad communicator; ncclGetLastError says why.
ncclTeam_t ncclTeamWorld(ncclComm_t comm);
ncclTeam_t ncclTeamLsa(ncclComm_t comm);
ncclTeam_t ncclTeamRail(ncclComm_t comm);
// The `rank`-th of `team`, as numbered in the communicator, or in this rank's local team. -1
// with a bad communicator.
int ncclTeamRankToWorld(ncclComm_t comm, ncclTeam_t team, int rank);
int ncclTeamRankToLsa(ncclComm_t comm, ncclTeam_t team, int rank);

// Not supported.
ncclResult_t ncclDevCommCreate(ncclComm_t comm, const ncclDevCommRequirements_t* reqs,
                               ncclDevComm_t* outDevComm);
ncclResult_t ncclDevCommDestroy(ncclComm_t comm, const ncclDevComm_t* devComm);
ncclResult_t ncclLsaBarrierCreateRequirement(ncclTeam_t team, int nBarriers,
                                             ncclLsaBarrierHandle_t* outHandle,
                                             ncclDevResourceRequirements_t* outReq);
ncclResult_t ncclGinBarrierCreateRequirement(ncclComm_t comm, ncclTeam_t team, int nBarriers,
                                             ncclGinBarrierHandle_t* outHandle,
                                             ncclDevResourceRequirements_t* outReq);
ncclResult_t ncclLLA2ACreateRequirement(int nBlocks, int nSlots, ncclLLA2AHandle_t* outHandle,
                                        ncclDevResourceRequirements_t* outReq);
int ncclLLA2ACalcSlots(int maxElts, int maxEltSize);  // -1
// Not supported; of 2.29.
ncclResult_t ncclGetLsaMultimemDevicePointer(ncclWindow_t window, size_t offset, void** outPtr);
ncclResult_t ncclGetPeerDevicePointer(ncclWindow_t window, size_t offset, int peer, void** outPtr);

#ifdef __cplusplus
}
#endif
