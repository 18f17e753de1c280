// What code compiled by nvcc calls: it registers its kernels before main, and launches them by the
// address of their host stub. No kernel is run: none of them has a host version here.
#include <cstdio>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "cuda/cudart/runtime.h"

using namespace slimccl::cudart;

namespace {

// Registrations come from the constructors of many libraries.
struct Kernels {
  std::mutex mutex;
  std::unordered_map<const void*, const char*> names;  // by host stub; strings of the libraries
};
Kernels& kernels() {
  static Kernels& only = *new Kernels;
  return only;
}

struct LaunchConfiguration {
  dim3 grid, block;
  size_t shared_bytes;
  void* stream;
};
std::vector<LaunchConfiguration>& configurations() {
  thread_local std::vector<LaunchConfiguration> pushed;
  return pushed;
}

cudaError_t refuse_launch(const char* function, const void* stub) noexcept {
  return call(function, [&] {
    bind();
    const std::lock_guard lock(kernels().mutex);
    const auto found = kernels().names.find(stub);
    std::fprintf(stderr, "[emulated cudart] kernel without a host version: %s\n",
                 found == kernels().names.end() ? "one that nobody registered" : found->second);
    throw Refused{cudaErrorInvalidDeviceFunction};
  });
}

}  // namespace

extern "C" {

void** __cudaRegisterFatBinary(void* fatbin) {
  return new void*(fatbin);  // its handle, until the process ends
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}

void __cudaRegisterFunction(void**, const char* stub, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  const std::lock_guard lock(kernels().mutex);
  kernels().names[stub] = name;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, void* stream) {
  configurations().push_back({grid, block, shared_bytes, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes,
                                       void* stream) {
  if (configurations().empty()) return remember(cudaErrorMissingConfiguration);
  const LaunchConfiguration last = configurations().back();
  configurations().pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared_bytes = last.shared_bytes;
  *static_cast<void**>(stream) = last.stream;
  return cudaSuccess;
}

// A kernel's handle is its stub.
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* stub) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(stub));
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void**, size_t, cudaStream_t) {
  return refuse_launch(__func__, kernel);
}

cudaError_t cudaLaunchKernel(const void* stub, dim3, dim3, void**, size_t, cudaStream_t) {
  return refuse_launch(__func__, stub);
}

cudaError_t cudaLaunchCooperativeKernel(const void* stub, dim3, dim3, void**, size_t,
                                        cudaStream_t) {
  return refuse_launch(__func__, stub);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void* stub, void**) {
  return refuse_launch(__func__, stub);
}

}  // extern "C"
