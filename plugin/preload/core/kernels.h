// Whether this process's GPU can run our kernels: asked at set-up, so that no rank finds out in the
// middle of a call.
#pragma once

#include <string>

#include "device/cuda/fold_kernels.h"

namespace slimccl::overlay {

inline constexpr const char* kKernelsOk = "ok";
inline constexpr const char* kKernelsNotTried = "not tried";

// Loads the CUDA kernels into the primary context of `device`, where they stay. Returns kKernelsOk,
// kKernelsNotTried without a device (-1), or what went wrong. Any thread, whatever is current
// there.
[[nodiscard]] std::string load_kernels(int device) noexcept;

// What it loaded, for as long as the process lives.
struct Gpu {
  const device::Driver& driver;
  const device::FoldKernels& kernels;
};
// Null before load_kernels() has succeeded once. Any thread.
[[nodiscard]] const Gpu* loaded_gpu() noexcept;

}  // namespace slimccl::overlay
