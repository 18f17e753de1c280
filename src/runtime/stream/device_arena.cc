#include "runtime/stream/device_arena.h"

#include "base/error.h"
#include "base/log.h"
#include "device/cuda/memory.h"
#include "quant/layout.h"

namespace slimccl::runtime {

using device::CUevent;
using device::CurrentContext;
using device::CUstream;

// Once this has returned, the destructor runs whatever happens: what is there is given back.
DeviceArena::DeviceArena(const device::Driver& driver, int device)
    : driver_(driver), device_(device) {
  driver_.cuDevicePrimaryCtxRetain(&context_, device_);
}

DeviceArena::DeviceArena(const device::Driver& driver, int device, uint64_t bytes)
    : DeviceArena(driver, device) {
  slot_bytes_ = bytes / kSlots / quant::kMessageAlign * quant::kMessageAlign;
  ensure(slot_bytes_ > 0, "an arena of ", bytes, " bytes");
  const CurrentContext current(driver_, context_);
  const device::BesideCaptures beside(driver_);
  driver_.cuMemAlloc(&memory_, kSlots * slot_bytes_);
  for (CUevent& event : passed_) {
    driver_.cuEventCreate(&event, device::CU_EVENT_DISABLE_TIMING);
  }
  driver_.cuEventCreate(&ordered_, device::CU_EVENT_DISABLE_TIMING);
}

DeviceArena::~DeviceArena() {
  try {
    {
      const CurrentContext current(driver_, context_);
      const device::BesideCaptures beside(driver_);
      if (memory_ != 0) driver_.cuMemFree(memory_);
      for (CUevent event : passed_) {
        if (event != nullptr) driver_.cuEventDestroy(event);
      }
      if (ordered_ != nullptr) driver_.cuEventDestroy(ordered_);
    }
    driver_.cuDevicePrimaryCtxRelease(device_);
  } catch (const Error& error) {
    log::warn("the arena of device ", device_, " could not be given back: ", error.what());
  }
}

DeviceArena::Slot DeviceArena::take_slot(CUstream stream) {
  const size_t slot = next_++ % kSlots;
  driver_.cuStreamWaitEvent(stream, passed_[slot], 0);
  return {reinterpret_cast<std::byte*>(memory_ + slot * slot_bytes_), passed_[slot]};
}

void DeviceArena::order(CUstream earlier, CUstream later) const {
  driver_.cuEventRecord(ordered_, earlier);
  driver_.cuStreamWaitEvent(later, ordered_, 0);
}

}  // namespace slimccl::runtime
