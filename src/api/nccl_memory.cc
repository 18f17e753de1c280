// Memory and its registration. All memory serves alike here; the functions keep their promises on
// arguments, so that a program's mistakes show.
#include <cstdlib>
#include <mutex>
#include <unordered_set>

#include "api/export.h"
#include "api/guard.h"
#include "api/registry.h"
#include "base/bytes.h"
#include "base/error.h"

namespace api = slimccl::api;
using slimccl::check;

namespace {

constexpr size_t kPage = 4096;

struct Allocations {
  std::mutex mutex;
  std::unordered_set<void*> living;
};

Allocations& allocations() {
  static auto* const value = new Allocations;  // never destroyed: memory may outlive us
  return *value;
}

}  // namespace

SLIMCCL_TWIN(MemAlloc);
SLIMCCL_EXPORT ncclResult_t ncclMemAlloc(void** ptr, size_t size) {
  return api::guard("ncclMemAlloc", [&] {
    check(ptr != nullptr, ncclInvalidArgument, "ptr is null");
    *ptr = nullptr;
    check(size > 0 && size <= SIZE_MAX / 2, ncclInvalidArgument, "size is ", size,
          size == 0 ? "; it must be at least 1" : ", more than there can be");
    void* const memory = std::aligned_alloc(kPage, slimccl::round_up(size, kPage));
    check(memory != nullptr, ncclSystemError, "no ", size, " bytes of memory are to be had");
    Allocations& all = allocations();
    const std::lock_guard lock(all.mutex);
    all.living.insert(memory);
    *ptr = memory;
  });
}

SLIMCCL_TWIN(MemFree);
SLIMCCL_EXPORT ncclResult_t ncclMemFree(void* ptr) {
  return api::guard("ncclMemFree", [&] {
    if (ptr == nullptr) return;
    Allocations& all = allocations();
    {
      const std::lock_guard lock(all.mutex);
      check(all.living.erase(ptr) == 1, ncclInvalidArgument, ptr,
            " did not come from ncclMemAlloc, or was freed before");
    }
    std::free(ptr);
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
