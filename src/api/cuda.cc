#include "api/cuda.h"

#include <atomic>
#include <mutex>

#include "device/cuda/memory.h"

namespace slimccl::api {
namespace {

// Never destroyed: arenas and the driver serve until the process is gone.
std::atomic<Cuda*> found{nullptr};

}  // namespace

Cuda* known_cuda() noexcept {
  Cuda* const known = found.load(std::memory_order_acquire);
  return known != nullptr && known->process == getpid() ? known : nullptr;
}

Cuda* cuda() {
  static std::mutex mutex;
  if (Cuda* const known = known_cuda()) return known;
  const std::lock_guard lock(mutex);
  // The parent's, after a fork, serves nobody.
  if (found.load() == nullptr && device::has_context()) found = new Cuda;
  return known_cuda();
}

int current_cuda_device() {
  const Cuda* const here = cuda();
  return here == nullptr ? -1 : device::current_device(here->driver);
}

}  // namespace slimccl::api
