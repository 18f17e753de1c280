// The process's CUDA, if it has any. Any thread.
#pragma once

#include <unistd.h>

#include "runtime/staging/arena.h"

namespace slimccl::api {

struct Cuda {
  device::Driver driver;
  runtime::ArenaPool arenas{driver};
  pid_t process = getpid();
};

// Null as long as no thread that asks has a CUDA context: SlimCCL starts CUDA for nobody. Once
// found it stays; a forked child has none. Throws Error if there is a context but the driver cannot
// be used.
[[nodiscard]] Cuda* cuda();
// What cuda() has found so far.
[[nodiscard]] Cuda* known_cuda() noexcept;

// The CUDA device that is current in this thread; -1: none. Throws as cuda().
[[nodiscard]] int current_cuda_device();

}  // namespace slimccl::api
