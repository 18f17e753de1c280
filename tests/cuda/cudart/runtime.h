// What the functions of the emulated CUDA runtime share. The runtime is thin: all state is the
// emulated driver's but for the thread's last error and its device while no context is current. So
// what uses the runtime (torch) and what uses the driver (SlimCCL) see one machine.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/emulated/exported.h"

namespace slimccl::cudart {

namespace driver = slimccl::device;

// A function's body throws this to return another result than success.
struct Refused {
  cudaError_t result;
};
inline void require(bool holds, cudaError_t otherwise) {
  if (!holds) throw Refused{otherwise};
}

// The driver's results have the runtime's numbers.
inline void require_driver(driver::CUresult result) {
  if (result != driver::CUDA_SUCCESS) throw Refused{static_cast<cudaError_t>(result)};
}

// Keeps an error as the thread's last one, and returns it.
cudaError_t remember(cudaError_t result) noexcept;
[[nodiscard]] cudaError_t last_error(bool forget) noexcept;

// Says that the function is not emulated, and fails it.
cudaError_t not_emulated(const char* function) noexcept;

// The body of an exported function: errors are injected by its name.
template <class Body>
cudaError_t call(const char* function, Body&& body) noexcept {
  try {
    const int admitted = slimccl_emulated_admit(function);
    require(admitted == 0, static_cast<cudaError_t>(admitted));
    body();
    return cudaSuccess;
  } catch (const Refused& refused) {
    return remember(refused.result);
  }
}

void initialize();                 // the driver; refuses without one that will do
[[nodiscard]] int device_count();  // initializes
[[nodiscard]] int device();        // of the thread: of its current context, if it has one
void set_device(int ordinal);      // makes the device's primary context current
// Makes sure that the thread has a current context. Whatever allocates or works needs one.
void bind();
[[nodiscard]] driver::CUcontext primary_context(int ordinal);

// Another device's primary context is current while this lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(int ordinal);
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  ~DeviceGuard();

 private:
  driver::CUcontext before_ = nullptr;
};

inline driver::CUstream handle(cudaStream_t stream) {
  return reinterpret_cast<driver::CUstream>(stream);
}
inline driver::CUevent handle(cudaEvent_t event) {
  return reinterpret_cast<driver::CUevent>(event);
}
inline driver::CUdeviceptr address(const void* pointer) {
  return reinterpret_cast<driver::CUdeviceptr>(pointer);
}

}  // namespace slimccl::cudart
