// Device memory for the partial results of calls on streams, taken once, and the events that keep
// its users apart. Two slots in turn: calls on two streams need not wait for each other, those on
// a third do.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "device/cuda/driver.h"

namespace slimccl::runtime {

class DeviceArena {
 public:
  static constexpr size_t kSlots = 2;

  // Throws Error if CUDA refuses.
  DeviceArena(const device::Driver& driver, int device, uint64_t bytes);
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;
  // May wait until the device has done all its work.
  ~DeviceArena();

  // The device's primary context, retained; the calls below want it current.
  [[nodiscard]] device::CUcontext context() const noexcept { return context_; }
  [[nodiscard]] uint64_t slot_bytes() const noexcept { return slot_bytes_; }

  struct Slot {
    std::byte* memory;
    device::CUevent passed;  // its user records it behind all that it has enqueued
  };
  // The next slot. What `stream` does from now on waits for the slot's last user.
  [[nodiscard]] Slot take_slot(device::CUstream stream);

  // `later` does nothing more before what `earlier` has to do now is done.
  void order(device::CUstream earlier, device::CUstream later) const;

 private:
  DeviceArena(const device::Driver& driver, int device);

  const device::Driver& driver_;
  const int device_;
  device::CUcontext context_ = nullptr;
  device::CUdeviceptr memory_ = 0;
  uint64_t slot_bytes_ = 0;
  std::array<device::CUevent, kSlots> passed_{};
  device::CUevent ordered_ = nullptr;
  size_t next_ = 0;
};

}  // namespace slimccl::runtime
