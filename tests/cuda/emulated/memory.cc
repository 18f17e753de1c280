#include "cuda/emulated/memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <mutex>
#include <sstream>

#include "base/bytes.h"
#include "cuda/emulated/control.h"
#include "cuda/emulated/settings.h"

namespace slimccl::emulated {
namespace {

constexpr uint64_t kPage = 4096;

// Of the last allocation that begins at or before the address; end() if there is none.
auto at_or_before(const std::map<uint64_t, size_t>& live, uint64_t address) {
  auto after = live.upper_bound(address);
  return after == live.begin() ? live.end() : std::prev(after);
}

bool holds(const std::map<uint64_t, size_t>& live, uint64_t address, size_t bytes) {
  const auto found = at_or_before(live, address);
  if (found == live.end()) return false;
  const uint64_t offset = address - found->first;
  return offset <= found->second && bytes <= found->second - offset;
}

void* map_without_rights(uint64_t address, size_t bytes, int more_flags) {
  void* mapped = mmap(reinterpret_cast<void*>(address), bytes, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | more_flags, -1, 0);
  if (mapped == MAP_FAILED) fault("no address space left for the emulated devices");
  return mapped;
}

}  // namespace

Memory::Memory() : devices_(static_cast<size_t>(settings().devices)) {
  distance_ = kRange * devices_.size();
  auto begin = reinterpret_cast<uint64_t>(map_without_rights(0, 2 * distance_, 0));
  for (Device& device : devices_) {
    device.begin = device.next = begin;
    begin += kRange;
  }
}

uint64_t Memory::allocate(int device, size_t bytes) {
  const std::unique_lock lock(mutex_);
  Device& of = devices_.at(static_cast<size_t>(device));
  const uint64_t mapped = round_up(bytes, kPage);
  // One more page stays unmapped between any two allocations.
  if (bytes > settings().device_bytes - of.used || of.next + mapped + kPage > of.begin + kRange) {
    return 0;
  }
  const uint64_t address = of.next;
  if (mprotect(reinterpret_cast<void*>(address + distance_), mapped, PROT_READ | PROT_WRITE) != 0) {
    fault("mprotect failed: too many allocations at once?");
  }
  of.next += mapped + kPage;
  of.used += bytes;
  of.live[address] = bytes;
  return address;
}

void Memory::release_locked(Device& device, uint64_t address) {
  const auto found = device.live.find(address);
  (void)map_without_rights(address + distance_, round_up(found->second, kPage), MAP_FIXED);
  device.used -= found->second;
  device.live.erase(found);
}

bool Memory::release(int device, uint64_t address) {
  const std::unique_lock lock(mutex_);
  Device& of = devices_.at(static_cast<size_t>(device));
  if (!of.live.contains(address)) return false;
  release_locked(of, address);
  return true;
}

void Memory::release_all(int device) {
  const std::unique_lock lock(mutex_);
  Device& of = devices_.at(static_cast<size_t>(device));
  while (!of.live.empty()) release_locked(of, of.live.begin()->first);
}

void* Memory::allocate_pinned(size_t bytes) {
  void* memory = std::aligned_alloc(kPage, round_up(bytes, kPage));
  const std::unique_lock lock(mutex_);
  if (memory != nullptr) pinned_[reinterpret_cast<uint64_t>(memory)] = bytes;
  return memory;
}

bool Memory::release_pinned(void* memory) {
  const std::unique_lock lock(mutex_);
  const auto address = reinterpret_cast<uint64_t>(memory);
  if (registered_.contains(address) || pinned_.erase(address) == 0) return false;
  std::free(memory);
  return true;
}

bool Memory::register_pinned(void* memory, size_t bytes) {
  const std::unique_lock lock(mutex_);
  const auto address = reinterpret_cast<uint64_t>(memory);
  const auto next = pinned_.lower_bound(address);
  const bool meets_next = next != pinned_.end() && next->first - address < bytes;
  if (meets_next || holds(pinned_, address, 1)) return false;
  pinned_[address] = bytes;
  registered_.insert(address);
  return true;
}

bool Memory::unregister_pinned(void* memory) {
  const std::unique_lock lock(mutex_);
  const auto address = reinterpret_cast<uint64_t>(memory);
  return registered_.erase(address) == 1 && pinned_.erase(address) == 1;
}

std::optional<Memory::Range> Memory::find(uint64_t address) const {
  const std::shared_lock lock(mutex_);
  const int device = is_device(address) ? owner(address) : -1;
  const auto& live = device < 0 ? pinned_ : devices_[static_cast<size_t>(device)].live;
  if (!holds(live, address, 1)) return std::nullopt;
  const auto found = at_or_before(live, address);
  return Range{found->first, found->second, device};
}

size_t Memory::free_bytes(int device) const {
  const std::shared_lock lock(mutex_);
  return settings().device_bytes - devices_.at(static_cast<size_t>(device)).used;
}

std::byte* Memory::reach(int device, uint64_t address, size_t bytes) const {
  const std::shared_lock lock(mutex_);
  const Device& of = devices_.at(static_cast<size_t>(device));
  if (holds(of.live, address, bytes)) return reinterpret_cast<std::byte*>(address + distance_);
  return holds(pinned_, address, bytes) ? reinterpret_cast<std::byte*>(address) : nullptr;
}

bool Memory::is_device(uint64_t address) const {
  return address >= devices_.front().begin && address < devices_.back().begin + kRange;
}

int Memory::owner(uint64_t address) const {
  return static_cast<int>((address - devices_.front().begin) / kRange);
}

bool Memory::is_pinned(const void* memory, size_t bytes) const {
  const std::shared_lock lock(mutex_);
  return holds(pinned_, reinterpret_cast<uint64_t>(memory), bytes);
}

int Memory::device_of(uint64_t address) const {
  const std::shared_lock lock(mutex_);
  for (size_t device = 0; device < devices_.size(); ++device) {
    if (holds(devices_[device].live, address, 1)) return static_cast<int>(device);
  }
  return -1;
}

std::string Memory::describe(uint64_t address) const {
  const std::shared_lock lock(mutex_);
  std::ostringstream text;
  if (!is_device(address)) return "no device memory lies there; it may be host memory";
  const auto device = static_cast<size_t>(owner(address));
  text << "of device " << device;
  const auto& live = devices_[device].live;
  const auto near = at_or_before(live, address);
  if (near == live.end()) return text.str() + ", before its first live allocation";
  text << ", " << address - near->first << " bytes into the nearest live allocation, at 0x"
       << std::hex << near->first << std::dec << " of " << near->second << " bytes";
  return text.str();
}

std::string Memory::refusal(int device, uint64_t address, size_t bytes, bool write) const {
  std::ostringstream text;
  text << (write ? "a write of " : "a read of ") << bytes << " bytes at 0x" << std::hex << address
       << std::dec << ", which device " << device << " may not touch: " << describe(address);
  return text.str();
}

Memory& memory() {
  static Memory& only = *new Memory;
  return only;
}

}  // namespace slimccl::emulated

long slimccl_emulated_distance() {
  return static_cast<long>(slimccl::emulated::memory().distance());
}
