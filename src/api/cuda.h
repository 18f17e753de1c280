// The process's CUDA, if it has any. Any thread.
#pragma once

#include "runtime/staging/arena.h"

namespace slimccl::api {

struct Cuda {
  device::Driver driver;
  runtime::ArenaPool arenas{driver};
};

// Null if there is no CUDA driver that can be used, and in a process that has not loaded one: no
// device can be current there. Once found it stays.
[[nodiscard]] Cuda* cuda();
// What cuda() has found so far.
[[nodiscard]] Cuda* known_cuda() noexcept;

// The CUDA device that is current in this thread; -1: none.
[[nodiscard]] int current_cuda_device();

}  // namespace slimccl::api
