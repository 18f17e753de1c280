// cuGetProcAddress, and the functions that are there only because torch cannot be loaded without.
#include <cstdio>
#include <string>

#include "cuda/emulated/exported.h"
#include "cuda/emulated/state.h"

namespace slimccl::device {

using namespace slimccl::emulated;

// By the name in cuda.h. The emulated driver has one version of each function: the newest.
CUresult cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* status) {
  return call(__func__, [&] {
    const std::string wanted = name;
    *function = nullptr;
#define SLIMCCL_FIND(known, symbol, ...) \
  if (wanted == #known) *function = reinterpret_cast<void*>(symbol);
    SLIMCCL_CUDA_FUNCTIONS(SLIMCCL_FIND)
    SLIMCCL_MORE_CUDA_FUNCTIONS(SLIMCCL_FIND)
#undef SLIMCCL_FIND
    const bool found = *function != nullptr;
    if (status != nullptr) {
      *status = found ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    }
    require(found, CUDA_ERROR_NOT_FOUND);
  });
}

// libcaffe2_nvrtc.so is linked to these, and loaded with RTLD_NOW.
#define SLIMCCL_NOT_EMULATED(X)                  \
  X(cuFuncGetAttribute)                          \
  X(cuFuncSetAttribute)                          \
  X(cuFuncSetCacheConfig)                        \
  X(cuLaunchCooperativeKernel)                   \
  X(cuLinkAddData_v2)                            \
  X(cuLinkComplete)                              \
  X(cuLinkCreate_v2)                             \
  X(cuModuleGetFunction)                         \
  X(cuModuleLoad)                                \
  X(cuModuleLoadData)                            \
  X(cuModuleLoadDataEx)                          \
  X(cuModuleUnload)                              \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessor) \
  X(cuTensorMapEncodeTiled)
#define SLIMCCL_REFUSE(name)                                           \
  extern "C" SLIMCCL_EMULATED_EXPORT CUresult name() {                 \
    std::fprintf(stderr, "[emulated cuda] " #name ": not emulated\n"); \
    return CUDA_ERROR_NOT_SUPPORTED;                                   \
  }
SLIMCCL_NOT_EMULATED(SLIMCCL_REFUSE)

}  // namespace slimccl::device
