// The names of the errors that the emulated runtime returns, or that tests may inject.
#include "cuda/cudart/runtime.h"

namespace {

#define SLIMCCL_ERRORS(X)                                                       \
  X(cudaSuccess, "no error")                                                    \
  X(cudaErrorInvalidValue, "invalid argument")                                  \
  X(cudaErrorMemoryAllocation, "out of memory")                                 \
  X(cudaErrorInitializationError, "initialization error")                       \
  X(cudaErrorInvalidMemcpyDirection, "copy in another direction than its kind") \
  X(cudaErrorInsufficientDriver, "the driver is older than the runtime")        \
  X(cudaErrorMissingConfiguration, "no launch was configured")                  \
  X(cudaErrorInvalidDeviceFunction, "no such kernel")                           \
  X(cudaErrorNoDevice, "no device")                                             \
  X(cudaErrorInvalidDevice, "no such device")                                   \
  X(cudaErrorDeviceUninitialized, "no context")                                 \
  X(cudaErrorNoKernelImageForDevice, "no kernel image for this device")         \
  X(cudaErrorPeerAccessUnsupported, "the device cannot reach that one")         \
  X(cudaErrorECCUncorrectable, "uncorrectable memory error")                    \
  X(cudaErrorInvalidResourceHandle, "no such stream, event or graph here")      \
  X(cudaErrorIllegalState, "not in this state")                                 \
  X(cudaErrorSymbolNotFound, "no such symbol")                                  \
  X(cudaErrorNotReady, "not ready")                                             \
  X(cudaErrorIllegalAddress, "illegal address")                                 \
  X(cudaErrorHostMemoryAlreadyRegistered, "registered already")                 \
  X(cudaErrorHostMemoryNotRegistered, "not registered")                         \
  X(cudaErrorMisalignedAddress, "misaligned address")                           \
  X(cudaErrorLaunchFailure, "a kernel failed")                                  \
  X(cudaErrorNotPermitted, "not permitted")                                     \
  X(cudaErrorNotSupported, "not supported")                                     \
  X(cudaErrorStreamCaptureUnsupported, "not while a stream captures")           \
  X(cudaErrorStreamCaptureInvalidated, "an earlier error ended the capture")    \
  X(cudaErrorStreamCaptureMerge, "two captures would become one")               \
  X(cudaErrorStreamCaptureUnmatched, "the capture began in another stream")     \
  X(cudaErrorStreamCaptureUnjoined, "a stream of the capture was not joined")   \
  X(cudaErrorStreamCaptureIsolation, "the event is not of this capture")        \
  X(cudaErrorStreamCaptureImplicit, "the legacy stream beside a capture")       \
  X(cudaErrorCapturedEvent, "the event was recorded in a capture")              \
  X(cudaErrorStreamCaptureWrongThread, "the capture began in another thread")   \
  X(cudaErrorUnknown, "unknown error")

struct Text {
  const char *name, *says;
};

Text text_of(cudaError_t error) {
#define SLIMCCL_TEXT_IF(which, says) \
  if (error == which) return {#which, says};
  SLIMCCL_ERRORS(SLIMCCL_TEXT_IF)
#undef SLIMCCL_TEXT_IF
  return {"unrecognized error code", "unrecognized error code"};
}

}  // namespace

extern "C" {

const char* cudaGetErrorName(cudaError_t error) { return text_of(error).name; }
const char* cudaGetErrorString(cudaError_t error) { return text_of(error).says; }

}  // extern "C"
