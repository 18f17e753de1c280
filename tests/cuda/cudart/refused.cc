// What torch is linked to and the emulation does not have: each call says so, and fails.
#include "cuda/cudart/runtime.h"

using namespace slimccl::cudart;

#define SLIMCCL_NOT_EMULATED(name, ...) \
  cudaError_t name(__VA_ARGS__) { return not_emulated(#name); }

extern "C" {

// Memory that belongs to a stream's order, and pools of it
SLIMCCL_NOT_EMULATED(cudaMallocAsync, void**, size_t, cudaStream_t)
SLIMCCL_NOT_EMULATED(cudaFreeAsync, void*, cudaStream_t)
SLIMCCL_NOT_EMULATED(cudaDeviceGetDefaultMemPool, cudaMemPool_t*, int)
SLIMCCL_NOT_EMULATED(cudaMemPoolGetAttribute, cudaMemPool_t, cudaMemPoolAttr, void*)
SLIMCCL_NOT_EMULATED(cudaMemPoolSetAttribute, cudaMemPool_t, cudaMemPoolAttr, void*)
SLIMCCL_NOT_EMULATED(cudaMemPoolSetAccess, cudaMemPool_t, const cudaMemAccessDesc*, size_t)
SLIMCCL_NOT_EMULATED(cudaMemPoolTrimTo, cudaMemPool_t, size_t)

// What another process shares
SLIMCCL_NOT_EMULATED(cudaIpcGetMemHandle, cudaIpcMemHandle_t*, void*)
SLIMCCL_NOT_EMULATED(cudaIpcOpenMemHandle, void**, cudaIpcMemHandle_t, unsigned)
SLIMCCL_NOT_EMULATED(cudaIpcCloseMemHandle, void*)
SLIMCCL_NOT_EMULATED(cudaIpcGetEventHandle, cudaIpcEventHandle_t*, cudaEvent_t)
SLIMCCL_NOT_EMULATED(cudaIpcOpenEventHandle, cudaEvent_t*, cudaIpcEventHandle_t)

// Device code and its variables
SLIMCCL_NOT_EMULATED(cudaFuncGetAttributes, cudaFuncAttributes*, const void*)
SLIMCCL_NOT_EMULATED(cudaFuncSetAttribute, const void*, cudaFuncAttribute, int)
SLIMCCL_NOT_EMULATED(cudaOccupancyMaxActiveBlocksPerMultiprocessor, int*, const void*, int, size_t)
SLIMCCL_NOT_EMULATED(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, int*, const void*, int,
                     size_t, unsigned)
SLIMCCL_NOT_EMULATED(cudaGetSymbolAddress, void**, const void*)
SLIMCCL_NOT_EMULATED(cudaMemcpyToSymbol, const void*, const void*, size_t, size_t, cudaMemcpyKind)

// Graphs, beyond their capture
SLIMCCL_NOT_EMULATED(cudaGraphDebugDotPrint, cudaGraph_t, const char*, unsigned)
SLIMCCL_NOT_EMULATED(cudaGraphGetNodes, cudaGraph_t, cudaGraphNode_t*, size_t*)
SLIMCCL_NOT_EMULATED(cudaGraphNodeGetDependencies, cudaGraphNode_t, cudaGraphNode_t*,
                     cudaGraphEdgeData*, size_t*)
SLIMCCL_NOT_EMULATED(cudaGraphInstantiateWithFlags, cudaGraphExec_t*, cudaGraph_t,
                     unsigned long long)
SLIMCCL_NOT_EMULATED(cudaGraphLaunch, cudaGraphExec_t, cudaStream_t)
SLIMCCL_NOT_EMULATED(cudaGraphExecDestroy, cudaGraphExec_t)

}  // extern "C"
