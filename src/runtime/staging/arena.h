// The pinned memory that one communicator moves device memory through, the word by which the engine
// releases the streams that wait for it, and the event that orders its calls.
//
// Arenas are kept and used again: pinning and unpinning memory may wait for all that a device does,
// and what it does may wait for the very thread that ends a communicator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "device/cuda/driver.h"
#include "runtime/completion.h"

namespace slimccl::runtime {

class Arena {
 public:
  static constexpr size_t kSlots = 4;  // pieces that may be under way at once

  // Throws Error for a device that is not there or has no memory left.
  Arena(const device::Driver& driver, int device, uint64_t bytes);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  [[nodiscard]] const device::Driver& driver() const noexcept { return driver_; }
  [[nodiscard]] int device() const noexcept { return device_; }
  [[nodiscard]] device::CUcontext context() const noexcept { return context_; }
  [[nodiscard]] uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::byte* slot(size_t index) const noexcept {
    return memory_ + index % kSlots * slot_bytes();
  }
  [[nodiscard]] uint64_t slot_bytes() const noexcept { return bytes_ / kSlots; }

  // Memory for a group's messages; slots_used: the group uses the slots, too. Where the arena does
  // not have so much, more is pinned, and kept.
  [[nodiscard]] std::byte* messages(uint64_t bytes, bool slots_used);

  // A completion that releases streams, from whatever thread finishes it, and its number. They must
  // be finished in the order of their numbers.
  struct Release {
    std::shared_ptr<Completion> completion;
    uint32_t number;
  };
  [[nodiscard]] Release next_release();
  // What these streams do from now on waits until the release has come.
  void wait_for_release(device::CUstream stream, uint32_t number) const;

  // For ArenaPool::Turn: the next call's place, granted by writing its number into the word.
  struct Ticket {
    uint32_t* word;
    uint32_t number;
  };
  [[nodiscard]] Ticket next_ticket() noexcept { return {word_ + 1, ++last_ticket_}; }

  // What `stream` does from now on comes after all that was done before the last call of
  // mark_end().
  void wait_for_last(device::CUstream stream) const;
  void mark_end(device::CUstream stream);
  // Makes `later` wait for what `earlier` has now.
  void join(device::CUstream later, device::CUstream earlier) const;

  // Nothing that was enqueued uses it any more.
  [[nodiscard]] bool idle() const;
  // Nobody knows whether it is used: it will never be idle.
  void spoil() noexcept { spoilt_ = true; }

 private:
  [[nodiscard]] std::byte* pin(uint64_t bytes) const;

  const device::Driver& driver_;
  const int device_;
  const uint64_t bytes_;
  device::CUcontext context_ = nullptr;
  std::byte* memory_ = nullptr;
  uint32_t* word_ = nullptr;  // the number of the last release, and of the last turn granted
  uint32_t last_number_ = 0, last_ticket_ = 0;
  device::CUevent end_ = nullptr, joint_ = nullptr;
  std::byte* more_ = nullptr;  // for messages; older and smaller ones may still be in use
  uint64_t more_bytes_ = 0;
  bool spoilt_ = false;
};

// The process's arenas that no communicator has. Any thread.
class ArenaPool {
 public:
  explicit ArenaPool(const device::Driver& driver) : driver_(driver) {}

  // Idle, and the caller's until give().
  [[nodiscard]] std::unique_ptr<Arena> take(int device, uint64_t bytes);
  void give(std::unique_ptr<Arena> arena);

  // For the variant that runs one call at a time on a device. In call order: whoever enqueues one
  // holds the lock meanwhile, and makes it wait for the event, which the one before has recorded.
  // In the order of arrival: the first of those that have arrived runs; streams say so themselves.
  struct Turn {
    std::mutex mutex;
    device::CUevent last = nullptr;
    std::deque<Arena::Ticket> arrived;

    void arrive(const Arena::Ticket& ticket);
    void leave();  // the one that runs
  };
  [[nodiscard]] Turn& turn(const Arena& arena);

 private:
  const device::Driver& driver_;
  std::map<int, Turn> turns_;  // by device
  std::mutex mutex_;
  std::vector<std::unique_ptr<Arena>> free_;
};

}  // namespace slimccl::runtime
