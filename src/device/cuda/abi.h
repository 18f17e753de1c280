// The part of CUDA's driver interface that SlimCCL uses, in declarations of our own: the library is
// built without the CUDA toolkit and never linked to the driver. Names and values are NVIDIA's;
// tests/cuda/abi_test.cc compares each with the toolkit's cuda.h where there is one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace slimccl::device {

struct CUctx_st;
struct CUstream_st;
struct CUevent_st;
struct CUfunc_st;
struct CUlib_st;
struct CUkern_st;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = CUctx_st*;
using CUstream = CUstream_st*;
using CUevent = CUevent_st*;
using CUfunction = CUfunc_st*;
using CUlibrary = CUlib_st*;
using CUkernel = CUkern_st*;
using CUhostFn = void (*)(void* user_data);

// X(name, value): the results that we name; the driver knows more.
#define SLIMCCL_CUDA_RESULTS(X)              \
  X(CUDA_SUCCESS, 0)                         \
  X(CUDA_ERROR_INVALID_VALUE, 1)             \
  X(CUDA_ERROR_OUT_OF_MEMORY, 2)             \
  X(CUDA_ERROR_NOT_INITIALIZED, 3)           \
  X(CUDA_ERROR_NO_DEVICE, 100)               \
  X(CUDA_ERROR_INVALID_DEVICE, 101)          \
  X(CUDA_ERROR_INVALID_IMAGE, 200)           \
  X(CUDA_ERROR_INVALID_CONTEXT, 201)         \
  X(CUDA_ERROR_NO_BINARY_FOR_GPU, 209)       \
  X(CUDA_ERROR_INVALID_HANDLE, 400)          \
  X(CUDA_ERROR_NOT_FOUND, 500)               \
  X(CUDA_ERROR_NOT_READY, 600)               \
  X(CUDA_ERROR_ILLEGAL_ADDRESS, 700)         \
  X(CUDA_ERROR_MISALIGNED_ADDRESS, 716)      \
  X(CUDA_ERROR_LAUNCH_FAILED, 719)           \
  X(CUDA_ERROR_NOT_PERMITTED, 800)           \
  X(CUDA_ERROR_NOT_SUPPORTED, 801)           \
  X(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, 906) \
  X(CUDA_ERROR_UNKNOWN, 999)

// X(name, value): flags and attributes.
#define SLIMCCL_CUDA_CONSTANTS(X)                     \
  X(CU_STREAM_DEFAULT, 0)                             \
  X(CU_STREAM_NON_BLOCKING, 1)                        \
  X(CU_STREAM_CAPTURE_MODE_RELAXED, 2)                \
  X(CU_STREAM_CAPTURE_STATUS_NONE, 0)                 \
  X(CU_EVENT_DEFAULT, 0)                              \
  X(CU_EVENT_DISABLE_TIMING, 2)                       \
  X(CU_STREAM_WAIT_VALUE_GEQ, 0)                      \
  X(CU_STREAM_WAIT_VALUE_EQ, 1)                       \
  X(CU_STREAM_WAIT_VALUE_AND, 2)                      \
  X(CU_STREAM_WAIT_VALUE_NOR, 3)                      \
  X(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 2)              \
  X(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, 9)           \
  X(CU_MEMORYTYPE_HOST, 1)                            \
  X(CU_MEMORYTYPE_DEVICE, 2)                          \
  X(CU_MEMORYTYPE_UNIFIED, 4)                         \
  X(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 75) \
  X(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 76)

#define SLIMCCL_ENUMERATOR(name, value) name = value,
enum CUresult : int { SLIMCCL_CUDA_RESULTS(SLIMCCL_ENUMERATOR) };
enum CUconstant : unsigned { SLIMCCL_CUDA_CONSTANTS(SLIMCCL_ENUMERATOR) };
#undef SLIMCCL_ENUMERATOR

// Macros in cuda.h: a flag of cuMemHostAlloc, and streams that are always there, beside null.
inline constexpr unsigned kMemHostAllocPortable = 1;
inline CUstream legacy_stream() { return reinterpret_cast<CUstream>(uintptr_t{1}); }
inline CUstream per_thread_stream() { return reinterpret_cast<CUstream>(uintptr_t{2}); }

// X(name in cuda.h, name in libcuda.so.1, parameters...): the functions that we use. All return
// CUresult. The second name is the version of the function that these parameters belong to; a
// CUkernel may stand for the CUfunction of cuLaunchKernel.
#define SLIMCCL_CUDA_FUNCTIONS(X)                                                                  \
  X(cuInit, cuInit, unsigned flags)                                                                \
  X(cuDriverGetVersion, cuDriverGetVersion, int* version)                                          \
  X(cuGetErrorName, cuGetErrorName, CUresult result, const char** name)                            \
  X(cuGetErrorString, cuGetErrorString, CUresult result, const char** text)                        \
  X(cuDeviceGetCount, cuDeviceGetCount, int* count)                                                \
  X(cuDeviceGet, cuDeviceGet, CUdevice* device, int ordinal)                                       \
  X(cuDeviceGetAttribute, cuDeviceGetAttribute, int* value, CUconstant attribute, CUdevice device) \
  X(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, CUcontext* context, CUdevice device)       \
  X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, CUdevice device)                      \
  X(cuCtxGetCurrent, cuCtxGetCurrent, CUcontext* context)                                          \
  X(cuCtxSetCurrent, cuCtxSetCurrent, CUcontext context)                                           \
  X(cuCtxGetDevice, cuCtxGetDevice, CUdevice* device)                                              \
  X(cuCtxSynchronize, cuCtxSynchronize)                                                            \
  X(cuMemAlloc, cuMemAlloc_v2, CUdeviceptr* address, size_t bytes)                                 \
  X(cuMemFree, cuMemFree_v2, CUdeviceptr address)                                                  \
  X(cuMemHostAlloc, cuMemHostAlloc, void** memory, size_t bytes, unsigned flags)                   \
  X(cuMemFreeHost, cuMemFreeHost, void* memory)                                                    \
  X(cuPointerGetAttributes, cuPointerGetAttributes, unsigned count, CUconstant* attributes,        \
    void** values, CUdeviceptr pointer)                                                            \
  X(cuMemcpyHtoD, cuMemcpyHtoD_v2, CUdeviceptr into, const void* from, size_t bytes)               \
  X(cuMemcpyDtoH, cuMemcpyDtoH_v2, void* into, CUdeviceptr from, size_t bytes)                     \
  X(cuMemcpyDtoD, cuMemcpyDtoD_v2, CUdeviceptr into, CUdeviceptr from, size_t bytes)               \
  X(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2, CUdeviceptr into, const void* from, size_t bytes,     \
    CUstream stream)                                                                               \
  X(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2, void* into, CUdeviceptr from, size_t bytes,           \
    CUstream stream)                                                                               \
  X(cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2, CUdeviceptr into, CUdeviceptr from, size_t bytes,     \
    CUstream stream)                                                                               \
  X(cuMemsetD8, cuMemsetD8_v2, CUdeviceptr into, unsigned char value, size_t bytes)                \
  X(cuMemsetD8Async, cuMemsetD8Async, CUdeviceptr into, unsigned char value, size_t bytes,         \
    CUstream stream)                                                                               \
  X(cuStreamCreate, cuStreamCreate, CUstream* stream, unsigned flags)                              \
  X(cuStreamDestroy, cuStreamDestroy_v2, CUstream stream)                                          \
  X(cuStreamSynchronize, cuStreamSynchronize, CUstream stream)                                     \
  X(cuStreamQuery, cuStreamQuery, CUstream stream)                                                 \
  X(cuThreadExchangeStreamCaptureMode, cuThreadExchangeStreamCaptureMode, CUconstant* mode)        \
  X(cuStreamIsCapturing, cuStreamIsCapturing, CUstream stream, CUconstant* status)                 \
  X(cuStreamWaitEvent, cuStreamWaitEvent, CUstream stream, CUevent event, unsigned flags)          \
  X(cuStreamWaitValue32, cuStreamWaitValue32_v2, CUstream stream, CUdeviceptr address,             \
    uint32_t value, unsigned flags)                                                                \
  X(cuStreamWriteValue32, cuStreamWriteValue32_v2, CUstream stream, CUdeviceptr address,           \
    uint32_t value, unsigned flags)                                                                \
  X(cuEventCreate, cuEventCreate, CUevent* event, unsigned flags)                                  \
  X(cuEventDestroy, cuEventDestroy_v2, CUevent event)                                              \
  X(cuEventRecord, cuEventRecord, CUevent event, CUstream stream)                                  \
  X(cuEventQuery, cuEventQuery, CUevent event)                                                     \
  X(cuEventSynchronize, cuEventSynchronize, CUevent event)                                         \
  X(cuLaunchHostFunc, cuLaunchHostFunc, CUstream stream, CUhostFn function, void* user_data)       \
  X(cuLibraryLoadData, cuLibraryLoadData, CUlibrary* library, const void* image, void* options,    \
    void** option_values, unsigned option_count, void* library_options,                            \
    void** library_option_values, unsigned library_option_count)                                   \
  X(cuLibraryUnload, cuLibraryUnload, CUlibrary library)                                           \
  X(cuLibraryGetKernel, cuLibraryGetKernel, CUkernel* kernel, CUlibrary library, const char* name) \
  X(cuKernelGetFunction, cuKernelGetFunction, CUfunction* function, CUkernel kernel)               \
  X(cuLaunchKernel, cuLaunchKernel, CUfunction function, unsigned grid_x, unsigned grid_y,         \
    unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,  \
    CUstream stream, void** parameters, void** extra)

}  // namespace slimccl::device
