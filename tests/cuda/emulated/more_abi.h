// The part of the driver's interface that SlimCCL does not use, but the emulated runtime
// (tests/cuda/cudart) is made of; as device/cuda/abi.h, and compared with cuda.h by the same test.
#pragma once

#include "device/cuda/abi.h"

namespace slimccl::device {

struct CUgraph_st;
struct CUgraphNode_st;
using CUgraph = CUgraph_st*;
using CUgraphNode = CUgraphNode_st*;
struct CUuuid {
  char bytes[16];
};

#define SLIMCCL_MORE_CUDA_RESULTS(X)                \
  X(CUDA_ERROR_ILLEGAL_STATE, 401)                  \
  X(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, 217)        \
  X(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, 704)    \
  X(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, 712) \
  X(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, 713)     \
  X(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, 900)     \
  X(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, 901)     \
  X(CUDA_ERROR_STREAM_CAPTURE_MERGE, 902)           \
  X(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, 903)       \
  X(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, 904)        \
  X(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, 905)       \
  X(CUDA_ERROR_CAPTURED_EVENT, 907)                 \
  X(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, 908)

#define SLIMCCL_MORE_CUDA_CONSTANTS(X)         \
  X(CU_EVENT_BLOCKING_SYNC, 1)                 \
  X(CU_EVENT_INTERPROCESS, 4)                  \
  X(CU_EVENT_RECORD_EXTERNAL, 1)               \
  X(CU_POINTER_ATTRIBUTE_DEVICE_POINTER, 3)    \
  X(CU_POINTER_ATTRIBUTE_HOST_POINTER, 4)      \
  X(CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, 11) \
  X(CU_POINTER_ATTRIBUTE_RANGE_SIZE, 12)       \
  X(CU_STREAM_CAPTURE_MODE_GLOBAL, 0)          \
  X(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, 1)    \
  X(CU_STREAM_CAPTURE_STATUS_ACTIVE, 1)        \
  X(CU_STREAM_CAPTURE_STATUS_INVALIDATED, 2)   \
  X(CU_GET_PROC_ADDRESS_SUCCESS, 0)            \
  X(CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, 1)

#define SLIMCCL_RESULT(name, value) inline constexpr auto name = static_cast<CUresult>(value);
#define SLIMCCL_CONSTANT(name, value) inline constexpr auto name = static_cast<CUconstant>(value);
SLIMCCL_MORE_CUDA_RESULTS(SLIMCCL_RESULT)
SLIMCCL_MORE_CUDA_CONSTANTS(SLIMCCL_CONSTANT)
#undef SLIMCCL_RESULT
#undef SLIMCCL_CONSTANT

#define SLIMCCL_MORE_CUDA_FUNCTIONS(X)                                                          \
  X(cuGetProcAddress, cuGetProcAddress_v2, const char* name, void** function, int version,      \
    uint64_t flags, int* status)                                                                \
  X(cuDeviceGetName, cuDeviceGetName, char* name, int bytes, CUdevice device)                   \
  X(cuDeviceGetUuid, cuDeviceGetUuid_v2, CUuuid* uuid, CUdevice device)                         \
  X(cuDeviceGetPCIBusId, cuDeviceGetPCIBusId, char* id, int bytes, CUdevice device)             \
  X(cuDeviceTotalMem, cuDeviceTotalMem_v2, size_t* bytes, CUdevice device)                      \
  X(cuDeviceCanAccessPeer, cuDeviceCanAccessPeer, int* can, CUdevice device, CUdevice peer)     \
  X(cuDevicePrimaryCtxGetState, cuDevicePrimaryCtxGetState, CUdevice device, unsigned* flags,   \
    int* active)                                                                                \
  X(cuCtxEnablePeerAccess, cuCtxEnablePeerAccess, CUcontext peer, unsigned flags)               \
  X(cuCtxGetStreamPriorityRange, cuCtxGetStreamPriorityRange, int* least, int* greatest)        \
  X(cuMemGetInfo, cuMemGetInfo_v2, size_t* free, size_t* total)                                 \
  X(cuMemHostRegister, cuMemHostRegister_v2, void* memory, size_t bytes, unsigned flags)        \
  X(cuMemHostUnregister, cuMemHostUnregister, void* memory)                                     \
  X(cuMemcpy, cuMemcpy, CUdeviceptr into, CUdeviceptr from, size_t bytes)                       \
  X(cuMemcpyAsync, cuMemcpyAsync, CUdeviceptr into, CUdeviceptr from, size_t bytes,             \
    CUstream stream)                                                                            \
  X(cuMemcpyPeerAsync, cuMemcpyPeerAsync, CUdeviceptr into, CUcontext into_context,             \
    CUdeviceptr from, CUcontext from_context, size_t bytes, CUstream stream)                    \
  X(cuPointerGetAttribute, cuPointerGetAttribute, void* value, CUconstant attribute,            \
    CUdeviceptr address)                                                                        \
  X(cuStreamCreateWithPriority, cuStreamCreateWithPriority, CUstream* stream, unsigned flags,   \
    int priority)                                                                               \
  X(cuStreamGetPriority, cuStreamGetPriority, CUstream stream, int* priority)                   \
  X(cuStreamGetFlags, cuStreamGetFlags, CUstream stream, unsigned* flags)                       \
  X(cuStreamBeginCapture, cuStreamBeginCapture_v2, CUstream stream, CUconstant mode)            \
  X(cuStreamEndCapture, cuStreamEndCapture, CUstream stream, CUgraph* graph)                    \
  X(cuStreamGetCaptureInfo, cuStreamGetCaptureInfo_v3, CUstream stream, CUconstant* status,     \
    uint64_t* id, CUgraph* graph, const CUgraphNode** nodes, const void** edges, size_t* count) \
  X(cuGraphDestroy, cuGraphDestroy, CUgraph graph)                                              \
  X(cuEventRecordWithFlags, cuEventRecordWithFlags, CUevent event, CUstream stream,             \
    unsigned flags)                                                                             \
  X(cuEventElapsedTime, cuEventElapsedTime_v2, float* milliseconds, CUevent begin, CUevent end)

}  // namespace slimccl::device
