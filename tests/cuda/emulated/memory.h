// The memory of the emulated devices. A device address is never readable by the host: the range of
// addresses that a device owns is mapped without any right, and what copies and kernels touch is a
// second range at a fixed distance, of which only live allocations are mapped. Addresses are not
// used twice, so freed memory is never reachable again. Calls from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <vector>

namespace slimccl::emulated {

class Memory {
 public:
  Memory();

  // 0: not enough memory left.
  [[nodiscard]] uint64_t allocate(int device, size_t bytes);
  [[nodiscard]] bool release(int device,
                             uint64_t address);  // false: not the start of an allocation
  void release_all(int device);

  [[nodiscard]] void* allocate_pinned(size_t bytes);
  [[nodiscard]] bool release_pinned(void* memory);  // false: not the start of an allocation

  // Pins memory of the program's own. False: some of it is pinned already, or was never registered.
  [[nodiscard]] bool register_pinned(void* memory, size_t bytes);
  [[nodiscard]] bool unregister_pinned(void* memory);

  // The live allocation, or pinned memory, that holds the address.
  struct Range {
    uint64_t begin = 0;
    size_t bytes = 0;
    int device = -1;  // pinned memory has none
  };
  [[nodiscard]] std::optional<Range> find(uint64_t address) const;
  [[nodiscard]] size_t free_bytes(int device) const;
  [[nodiscard]] uint64_t distance() const { return distance_; }

  // Where `bytes` bytes at `address` really are. Null unless they lie within one live allocation of
  // the device, or within pinned memory, which every device reaches.
  [[nodiscard]] std::byte* reach(int device, uint64_t address, size_t bytes) const;
  [[nodiscard]] bool is_device(uint64_t address) const;  // of any device, live or not
  [[nodiscard]] int owner(uint64_t address) const;       // of a device address
  [[nodiscard]] bool is_pinned(const void* memory, size_t bytes) const;
  [[nodiscard]] int device_of(uint64_t address) const;  // whose live memory it is; -1: nobody's
  [[nodiscard]] std::string describe(uint64_t address) const;  // what lies there or nearest to it
  // What to say where reach() finds nothing.
  [[nodiscard]] std::string refusal(int device, uint64_t address, size_t bytes, bool write) const;

 private:
  struct Device {
    uint64_t begin = 0, next = 0, used = 0;
    std::map<uint64_t, size_t> live;  // bytes by address
  };
  void release_locked(Device& device, uint64_t address);

  static constexpr uint64_t kRange = uint64_t{1} << 40;  // addresses of one device
  mutable std::shared_mutex mutex_;
  std::vector<Device> devices_;
  std::map<uint64_t, size_t> pinned_;  // whether allocated or registered
  std::set<uint64_t> registered_;
  uint64_t distance_ = 0;  // from a device address to its bytes
};

[[nodiscard]] Memory& memory();  // the process's

}  // namespace slimccl::emulated
