// The emulated driver's calls about itself, devices and contexts.
#include "cuda/emulated/exported.h"
#include "cuda/emulated/memory.h"
#include "cuda/emulated/settings.h"
#include "cuda/emulated/state.h"

namespace slimccl::device {

using namespace slimccl::emulated;

namespace {

// The last user of a device's primary context is gone, and all that it held with it.
void tear_down(Context& context) {
  synchronize(context, "the release of a context");
  memory().release_all(context.device);
  context.stream_0->close();
  context.stream_0 = nullptr;
}

}  // namespace

CUresult cuInit(unsigned flags) {
  return call(__func__, [&] {
    require(flags == 0, CUDA_ERROR_INVALID_VALUE);
    require(settings().devices > 0, CUDA_ERROR_NO_DEVICE);
    const std::lock_guard lock(state().mutex);
    state().initialized = true;
  });
}

CUresult cuDriverGetVersion(int* version) {
  return call(__func__, [&] { *version = settings().driver_version; });
}

// These two only read a table, and tell of errors in any state: no call precedes them.
CUresult cuGetErrorName(CUresult result, const char** name) {
  switch (result) {
#define SLIMCCL_CASE(result_name, value) \
  case result_name:                      \
    *name = #result_name;                \
    return CUDA_SUCCESS;
    SLIMCCL_CUDA_RESULTS(SLIMCCL_CASE)
#undef SLIMCCL_CASE
  }
#define SLIMCCL_NAME_IF(result_name, value)     \
  if (result == static_cast<CUresult>(value)) { \
    *name = #result_name;                       \
    return CUDA_SUCCESS;                        \
  }
  SLIMCCL_MORE_CUDA_RESULTS(SLIMCCL_NAME_IF)
#undef SLIMCCL_NAME_IF
  *name = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult result, const char** text) {
  const char* name = nullptr;
  const CUresult known = cuGetErrorName(result, &name);
  *text = known == CUDA_SUCCESS ? "says the emulated driver" : nullptr;
  return known;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return call(__func__, [&] {
    Context& primary = context_of_device(device);
    const std::lock_guard lock(state().mutex);
    if (primary.retained++ == 0) {
      ++primary.generation;
      primary.peers.clear();
      primary.stream_0 = Stream::start(primary, true);
      primary.streams = {primary.stream_0};
    }
    *context = handle_of(&primary);
  });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return call(__func__, [&] {
    Context& primary = context_of_device(device);
    require(primary.retained > 0, CUDA_ERROR_INVALID_CONTEXT);
    if (primary.retained == 1) tear_down(primary);
    --primary.retained;
  });
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  return call(__func__, [&] { *context = handle_of(current_slot()); });
}

CUresult cuCtxSetCurrent(CUcontext context) {
  return call(__func__, [&] { current_slot() = context_of(context); });
}

CUresult cuCtxGetDevice(CUdevice* device) {
  return call(__func__, [&] { *device = current().device; });
}

CUresult cuCtxSynchronize() {
  return call(__func__, [&] {
    forbid_in_capture(current());
    forbid_unsafe_in_capture();
    synchronize(current(), "cuCtxSynchronize");
  });
}

}  // namespace slimccl::device
