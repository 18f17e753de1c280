// The emulated runtime's functions about itself, its devices and errors.
#include <cstring>
#include <type_traits>

#include "cuda/cudart/runtime.h"

using namespace slimccl::cudart;

namespace {

int attribute(cudaDeviceAttr which, int ordinal) {
  int value = 0;
  require_driver(
      driver::cuDeviceGetAttribute(&value, static_cast<driver::CUconstant>(which), ordinal));
  return value;
}

// X(field, attribute): what of cudaDeviceProp is an attribute.
#define SLIMCCL_PROPERTIES(X)                                                        \
  X(sharedMemPerBlock, cudaDevAttrMaxSharedMemoryPerBlock)                           \
  X(regsPerBlock, cudaDevAttrMaxRegistersPerBlock)                                   \
  X(warpSize, cudaDevAttrWarpSize)                                                   \
  X(maxThreadsPerBlock, cudaDevAttrMaxThreadsPerBlock)                               \
  X(maxThreadsDim[0], cudaDevAttrMaxBlockDimX)                                       \
  X(maxThreadsDim[1], cudaDevAttrMaxBlockDimY)                                       \
  X(maxThreadsDim[2], cudaDevAttrMaxBlockDimZ)                                       \
  X(maxGridSize[0], cudaDevAttrMaxGridDimX)                                          \
  X(maxGridSize[1], cudaDevAttrMaxGridDimY)                                          \
  X(maxGridSize[2], cudaDevAttrMaxGridDimZ)                                          \
  X(totalConstMem, cudaDevAttrTotalConstantMemory)                                   \
  X(major, cudaDevAttrComputeCapabilityMajor)                                        \
  X(minor, cudaDevAttrComputeCapabilityMinor)                                        \
  X(multiProcessorCount, cudaDevAttrMultiProcessorCount)                             \
  X(canMapHostMemory, cudaDevAttrCanMapHostMemory)                                   \
  X(concurrentKernels, cudaDevAttrConcurrentKernels)                                 \
  X(pciBusID, cudaDevAttrPciBusId)                                                   \
  X(asyncEngineCount, cudaDevAttrAsyncEngineCount)                                   \
  X(unifiedAddressing, cudaDevAttrUnifiedAddressing)                                 \
  X(memoryBusWidth, cudaDevAttrGlobalMemoryBusWidth)                                 \
  X(l2CacheSize, cudaDevAttrL2CacheSize)                                             \
  X(maxThreadsPerMultiProcessor, cudaDevAttrMaxThreadsPerMultiProcessor)             \
  X(streamPrioritiesSupported, cudaDevAttrStreamPrioritiesSupported)                 \
  X(sharedMemPerMultiprocessor, cudaDevAttrMaxSharedMemoryPerMultiprocessor)         \
  X(regsPerMultiprocessor, cudaDevAttrMaxRegistersPerMultiprocessor)                 \
  X(canUseHostPointerForRegisteredMem, cudaDevAttrCanUseHostPointerForRegisteredMem) \
  X(sharedMemPerBlockOptin, cudaDevAttrMaxSharedMemoryPerBlockOptin)                 \
  X(maxBlocksPerMultiProcessor, cudaDevAttrMaxBlocksPerMultiprocessor)               \
  X(reservedSharedMemPerBlock, cudaDevAttrReservedSharedMemoryPerBlock)              \
  X(hostRegisterSupported, cudaDevAttrHostRegisterSupported)

}  // namespace

extern "C" {

cudaError_t cudaRuntimeGetVersion(int* version) {
  return call(__func__, [&] { *version = CUDART_VERSION; });
}

cudaError_t cudaDriverGetVersion(int* version) {
  return call(__func__, [&] { require_driver(driver::cuDriverGetVersion(version)); });
}

cudaError_t cudaGetDeviceCount(int* count) {
  return call(__func__, [&] {
    *count = 0;
    *count = device_count();
  });
}

cudaError_t cudaSetDevice(int ordinal) {
  return call(__func__, [&] { set_device(ordinal); });
}

cudaError_t cudaGetDevice(int* ordinal) {
  return call(__func__, [&] { *ordinal = device(); });
}

cudaError_t cudaDeviceSynchronize() {
  return call(__func__, [&] {
    bind();
    require_driver(driver::cuCtxSynchronize());
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int ordinal) {
  return call(__func__, [&] {
    initialize();
    *value = attribute(which, ordinal);
  });
}

// What the emulated devices do not say stays zero: they do not have it.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int ordinal) {
  return call(__func__, [&] {
    initialize();
    require(ordinal >= 0 && ordinal < device_count(), cudaErrorInvalidDevice);
    cudaDeviceProp& all = *properties;
    std::memset(&all, 0, sizeof(all));
    require_driver(driver::cuDeviceGetName(all.name, sizeof(all.name), ordinal));
    require_driver(driver::cuDeviceTotalMem_v2(&all.totalGlobalMem, ordinal));
    driver::CUuuid uuid;
    require_driver(driver::cuDeviceGetUuid_v2(&uuid, ordinal));
    static_assert(sizeof(uuid) == sizeof(all.uuid));
    std::memcpy(&all.uuid, &uuid, sizeof(uuid));
#define SLIMCCL_FILL(field, which) \
  all.field = static_cast<std::decay_t<decltype(all.field)>>(attribute(which, ordinal));
    SLIMCCL_PROPERTIES(SLIMCCL_FILL)
#undef SLIMCCL_FILL
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int bytes, int ordinal) {
  return call(__func__, [&] {
    initialize();
    require_driver(driver::cuDeviceGetPCIBusId(id, bytes, ordinal));
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return call(__func__, [&] {
    bind();
    require_driver(driver::cuCtxGetStreamPriorityRange(least, greatest));
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int ordinal, int peer) {
  return call(__func__, [&] {
    initialize();
    require_driver(driver::cuDeviceCanAccessPeer(can, ordinal, peer));
  });
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  return call(__func__, [&] {
    bind();
    require_driver(driver::cuCtxEnablePeerAccess(primary_context(peer), flags));
  });
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* status) {
  return call(__func__, [&] {
    initialize();
    int found = 0;
    const auto result =
        driver::cuGetProcAddress_v2(name, function, static_cast<int>(version), flags, &found);
    if (status != nullptr) *status = static_cast<cudaDriverEntryPointQueryResult>(found);
    require_driver(result);
  });
}

// No profiler is ever attached, so there is nothing to start or stop.
cudaError_t cudaProfilerStart() {
  return call(__func__, [] {});
}
cudaError_t cudaProfilerStop() {
  return call(__func__, [] {});
}

cudaError_t cudaGetLastError() { return last_error(true); }
cudaError_t cudaPeekAtLastError() { return last_error(false); }

}  // extern "C"
