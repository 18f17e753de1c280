#include "cuda/cudart/runtime.h"

#include <cstdio>
#include <map>
#include <mutex>

namespace slimccl::cudart {
namespace {

thread_local cudaError_t thread_error = cudaSuccess;
thread_local int thread_device = 0;  // where no context is current

driver::CUcontext current_context() {
  driver::CUcontext current = nullptr;
  require_driver(driver::cuCtxGetCurrent(&current));
  return current;
}

}  // namespace

cudaError_t remember(cudaError_t result) noexcept {
  thread_error = result;
  return result;
}

cudaError_t last_error(bool forget) noexcept {
  const cudaError_t last = thread_error;
  if (forget) thread_error = cudaSuccess;
  return last;
}

cudaError_t not_emulated(const char* function) noexcept {
  std::fprintf(stderr, "[emulated cudart] %s: not emulated\n", function);
  return remember(cudaErrorNotSupported);
}

void initialize() {
  static const driver::CUresult initialized = driver::cuInit(0);
  require_driver(initialized);
  static const bool new_enough = [] {
    int version = 0;
    return driver::cuDriverGetVersion(&version) == driver::CUDA_SUCCESS &&
           version >= CUDART_VERSION / 1000 * 1000;
  }();
  require(new_enough, cudaErrorInsufficientDriver);
}

int device_count() {
  initialize();
  int count = 0;
  require_driver(driver::cuDeviceGetCount(&count));
  return count;
}

int device() {
  initialize();
  if (current_context() == nullptr) return thread_device;
  int ordinal = 0;
  require_driver(driver::cuCtxGetDevice(&ordinal));
  return ordinal;
}

driver::CUcontext primary_context(int ordinal) {
  require(ordinal >= 0 && ordinal < device_count(), cudaErrorInvalidDevice);
  static std::mutex mutex;
  static auto& retained = *new std::map<int, driver::CUcontext>;  // until the process ends
  const std::lock_guard lock(mutex);
  driver::CUcontext& context = retained[ordinal];
  if (context == nullptr) require_driver(driver::cuDevicePrimaryCtxRetain(&context, ordinal));
  return context;
}

void set_device(int ordinal) {
  require_driver(driver::cuCtxSetCurrent(primary_context(ordinal)));
  thread_device = ordinal;
}

void bind() {
  initialize();
  if (current_context() == nullptr) set_device(thread_device);
}

DeviceGuard::DeviceGuard(int ordinal) {
  initialize();
  before_ = current_context();
  require_driver(driver::cuCtxSetCurrent(primary_context(ordinal)));
}

DeviceGuard::~DeviceGuard() { (void)driver::cuCtxSetCurrent(before_); }

}  // namespace slimccl::cudart
