// Memory and its registration. Memory is the CUDA device's where one is current, else the host's.
// All of a kind serves alike; the functions keep their promises on arguments, so that a program's
// mistakes show.
#include <cstdlib>
#include <mutex>
#include <unordered_map>

#include "api/cuda.h"
#include "api/export.h"
#include "api/guard.h"
#include "api/registry.h"
#include "base/bytes.h"
#include "base/error.h"
#include "device/cuda/memory.h"

namespace api = slimccl::api;
using slimccl::check;
using slimccl::device::CUcontext;
using slimccl::device::CUdeviceptr;

namespace {

constexpr size_t kPage = 4096;

struct Allocations {
  std::mutex mutex;
  std::unordered_map<void*, CUcontext> living;  // null: the host's
};

Allocations& allocations() {
  static auto* const value = new Allocations;  // never destroyed: memory may outlive us
  return *value;
}

void* allocate(size_t size, CUcontext& context) {
  if (api::current_cuda_device() < 0) {
    context = nullptr;
    return std::aligned_alloc(kPage, slimccl::round_up(size, kPage));
  }
  const auto& driver = api::cuda()->driver;
  driver.cuCtxGetCurrent(&context);
  CUdeviceptr address = 0;
  driver.cuMemAlloc(&address, size);
  return reinterpret_cast<void*>(address);
}

void release(void* memory, CUcontext context) {
  if (context == nullptr) return std::free(memory);
  const auto& driver = api::cuda()->driver;
  const slimccl::device::CurrentContext current(driver, context);
  driver.cuMemFree(slimccl::device::address_of(memory));
}

}  // namespace

SLIMCCL_TWIN(MemAlloc);
SLIMCCL_EXPORT ncclResult_t ncclMemAlloc(void** ptr, size_t size) {
  return api::guard("ncclMemAlloc", [&] {
    check(ptr != nullptr, ncclInvalidArgument, "ptr is null");
    *ptr = nullptr;
    check(size > 0 && size <= SIZE_MAX / 2, ncclInvalidArgument, "size is ", size,
          size == 0 ? "; it must be at least 1" : ", more than there can be");
    CUcontext context = nullptr;
    void* const memory = allocate(size, context);
    check(memory != nullptr, ncclSystemError, "no ", size, " bytes of memory are to be had");
    Allocations& all = allocations();
    const std::lock_guard lock(all.mutex);
    all.living.emplace(memory, context);
    *ptr = memory;
  });
}

SLIMCCL_TWIN(MemFree);
SLIMCCL_EXPORT ncclResult_t ncclMemFree(void* ptr) {
  return api::guard("ncclMemFree", [&] {
    if (ptr == nullptr) return;
    Allocations& all = allocations();
    std::unique_lock lock(all.mutex);
    const auto found = all.living.find(ptr);
    check(found != all.living.end(), ncclInvalidArgument, ptr,
          " did not come from ncclMemAlloc, or was freed before");
    const CUcontext context = found->second;
    all.living.erase(found);
    lock.unlock();
    release(ptr, context);
  });
}

SLIMCCL_TWIN(CommRegister);
SLIMCCL_EXPORT ncclResult_t ncclCommRegister(const ncclComm_t comm, void* buff, size_t size,
                                             void** handle) {
  return api::guard("ncclCommRegister", [&] {
    check(handle != nullptr, ncclInvalidArgument, "handle is null");
    *handle = nullptr;
    check(buff != nullptr && size > 0, ncclInvalidArgument, "buff is null or size is 0");
    *handle = api::find(comm)->add_registration();
  });
}

SLIMCCL_TWIN(CommDeregister);
SLIMCCL_EXPORT ncclResult_t ncclCommDeregister(const ncclComm_t comm, void* handle) {
  return api::guard("ncclCommDeregister", [&] { api::find(comm)->remove_registration(handle); });
}
