// Whose memory a pointer is, and the context that calls of the driver work in. Any thread that may
// call the driver.
#pragma once

#include "device/cuda/driver.h"

namespace slimccl::device {

// Whether this thread has a context of the process's libcuda.so.1. Asked without loading the driver
// and without starting CUDA (cuInit), which a process may want to do only after a fork.
[[nodiscard]] bool has_context() noexcept;

// The device that is current in this thread; -1: no context is.
[[nodiscard]] int current_device(const Driver& driver);

// The device whose memory `pointer` is; -1: the host's, pinned or not. Managed memory counts as its
// device's.
[[nodiscard]] int device_of(const Driver& driver, const void* pointer);

[[nodiscard]] inline CUdeviceptr address_of(const void* pointer) {
  return reinterpret_cast<CUdeviceptr>(pointer);
}

// Makes a context current in this thread; what was current is so again at the end.
class CurrentContext {
 public:
  CurrentContext(const Driver& driver, CUcontext context);
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;
  ~CurrentContext();

 private:
  const Driver& driver_;
  CUcontext before_ = nullptr;
  bool changed_ = false;
};

// While it lives, what this thread asks of CUDA does not disturb another thread that captures its
// work into a graph: without it, taking memory or asking for an event would invalidate the capture.
class BesideCaptures {
 public:
  explicit BesideCaptures(const Driver& driver);
  BesideCaptures(const BesideCaptures&) = delete;
  BesideCaptures& operator=(const BesideCaptures&) = delete;
  ~BesideCaptures();

 private:
  const Driver& driver_;
  CUconstant mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;  // that of the thread in the meantime
};

}  // namespace slimccl::device
