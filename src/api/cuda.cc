#include "api/cuda.h"

#include <dlfcn.h>

#include <atomic>
#include <mutex>

#include "base/error.h"
#include "base/log.h"
#include "device/cuda/memory.h"

namespace slimccl::api {
namespace {

// Never destroyed: arenas and the driver serve until the process is gone.
std::atomic<Cuda*> found{nullptr};

// Who has not loaded the driver has no context; and to load it would be to start it, which a
// process may want to do only after a fork.
bool driver_is_loaded() {
  void* const handle = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (handle != nullptr) dlclose(handle);
  return handle != nullptr;
}

}  // namespace

Cuda* known_cuda() noexcept { return found.load(std::memory_order_acquire); }

Cuda* cuda() {
  static std::mutex mutex;
  if (Cuda* const known = known_cuda()) return known;
  const std::lock_guard lock(mutex);
  if (Cuda* const known = known_cuda()) return known;
  if (!driver_is_loaded()) return nullptr;
  try {
    found = new Cuda;
  } catch (const Error& error) {
    log::info("CUDA memory cannot be used: ", error.what());
  }
  return known_cuda();
}

int current_cuda_device() {
  const Cuda* const here = cuda();
  return here == nullptr ? -1 : device::current_device(here->driver);
}

}  // namespace slimccl::api
