#include "api/registry.h"

#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "base/error.h"

namespace slimccl::api {
namespace {

struct Registry {
  std::mutex mutex;
  std::unordered_map<uintptr_t, Entry> entries;
  uintptr_t next = 0;
};

Registry& registry() {
  static auto* const value =
      new Registry;  // never destroyed: handles may be used until the process is gone
  return *value;
}

// Above every page that could be mapped low, and odd in its steps only by 16: looks like a pointer,
// is none.
constexpr uintptr_t kFirstHandle = 0x51000000;

[[noreturn]] void unknown(uintptr_t handle) {
  if (handle == 0) throw Error(ncclInvalidArgument, "the communicator is null");
  throw Error(ncclInvalidArgument,
              concat("0x", std::hex, handle,
                     " is no living communicator: it was destroyed, aborted, or never made here"));
}

}  // namespace

ncclComm_t add(std::shared_ptr<runtime::Communicator> communicator) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const uintptr_t handle = kFirstHandle + 16 * ++all.next;
  all.entries[handle] = {std::move(communicator), std::make_shared<Reductions>()};
  return reinterpret_cast<ncclComm_t>(handle);
}

Entry find(ncclComm_t comm) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto handle = reinterpret_cast<uintptr_t>(comm);
  const auto found = all.entries.find(handle);
  if (found == all.entries.end()) unknown(handle);
  return found->second;
}

void forget(ncclComm_t comm) noexcept {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.entries.erase(reinterpret_cast<uintptr_t>(comm));
}

}  // namespace slimccl::api
