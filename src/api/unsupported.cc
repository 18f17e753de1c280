// What NCCL's interface has and host memory cannot mean: each function only says why not, and what
// to do instead. They are there because a program that names one of them must still load.
#include <string_view>

#include "api/export.h"
#include "api/guard.h"
#include "base/error.h"
#include "slimccl/nccl_device.h"

namespace {

constexpr std::string_view kDevice =
    "kernels cannot communicate by themselves here, buffers are host memory; call the collectives, "
    "or ncclSend and ncclRecv";
constexpr std::string_view kWindow =
    "there are no windows, buffers are host memory; give the collectives any buffer, registered or "
    "not";
constexpr std::string_view kOneSided =
    "there are no one-sided operations; use ncclSend and ncclRecv in a group";
constexpr std::string_view kGrow =
    "a communicator cannot grow; make a new one of all ranks with ncclGetUniqueId and "
    "ncclCommInitRank";
constexpr std::string_view kSuspend =
    "a communicator holds no device memory that could be given back; destroy it when it is not "
    "needed";

ncclResult_t refuse(std::string_view function, std::string_view why) {
  return slimccl::api::guard(function, [&] {
    throw slimccl::Error(ncclInvalidUsage, slimccl::concat("not supported: ", why));
  });
}

}  // namespace

#define UNSUPPORTED(NAME, PARAMETERS, why) \
  SLIMCCL_TWIN(NAME);                      \
  SLIMCCL_EXPORT ncclResult_t nccl##NAME PARAMETERS { return refuse("nccl" #NAME, why); }

UNSUPPORTED(CommWindowRegister, (ncclComm_t, void*, size_t, ncclWindow_t*, int), kWindow)
UNSUPPORTED(CommWindowDeregister, (ncclComm_t, ncclWindow_t), kWindow)
UNSUPPORTED(WinGetUserPtr, (ncclComm_t, ncclWindow_t, void**), kWindow)
UNSUPPORTED(GetLsaMultimemDevicePointer, (ncclWindow_t, size_t, void**), kWindow)
UNSUPPORTED(GetPeerDevicePointer, (ncclWindow_t, size_t, int, void**), kWindow)
UNSUPPORTED(DevCommCreate, (ncclComm_t, const ncclDevCommRequirements_t*, ncclDevComm_t*), kDevice)
UNSUPPORTED(DevCommDestroy, (ncclComm_t, const ncclDevComm_t*), kDevice)
UNSUPPORTED(LsaBarrierCreateRequirement,
            (ncclTeam_t, int, ncclLsaBarrierHandle_t*, ncclDevResourceRequirements_t*), kDevice)
UNSUPPORTED(GinBarrierCreateRequirement,
            (ncclComm_t, ncclTeam_t, int, ncclGinBarrierHandle_t*, ncclDevResourceRequirements_t*),
            kDevice)
UNSUPPORTED(LLA2ACreateRequirement, (int, int, ncclLLA2AHandle_t*, ncclDevResourceRequirements_t*),
            kDevice)
UNSUPPORTED(PutSignal,
            (const void*, size_t, ncclDataType_t, int, ncclWindow_t, size_t, int, int, unsigned int,
             ncclComm_t, cudaStream_t),
            kOneSided)
UNSUPPORTED(Signal, (int, int, int, unsigned int, ncclComm_t, cudaStream_t), kOneSided)
UNSUPPORTED(WaitSignal, (int, ncclWaitSignalDesc_t*, ncclComm_t, cudaStream_t), kOneSided)
UNSUPPORTED(CommGetUniqueId, (ncclComm_t, ncclUniqueId*), kGrow)
UNSUPPORTED(CommGrow, (ncclComm_t, int, const ncclUniqueId*, int, ncclComm_t*, ncclConfig_t*),
            kGrow)
UNSUPPORTED(CommSuspend, (ncclComm_t, int), kSuspend)
UNSUPPORTED(CommResume, (ncclComm_t), kSuspend)
UNSUPPORTED(CommMemStats, (ncclComm_t, ncclCommMemStat_t, uint64_t*), kSuspend)

SLIMCCL_TWIN(LLA2ACalcSlots);
SLIMCCL_EXPORT int ncclLLA2ACalcSlots(int, int) {
  refuse("ncclLLA2ACalcSlots", kDevice);
  return -1;
}

// NCCL would read its logging settings again; ours are read once. Deprecated there, so here too.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
SLIMCCL_TWIN(ResetDebugInit);
SLIMCCL_EXPORT void ncclResetDebugInit() {}
