// From a real communicator's handle to what we know of it. Looking up takes no lock and no time;
// making and ending do.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/entry.h"

namespace slimccl::overlay {

class Table {
 public:
  static constexpr size_t kSlots = 1 << 13;
  static constexpr size_t kMostEntries = kSlots / 2;
  static constexpr size_t kQuarantine = 64;  // so many others end before an entry is used again

  // Any thread. Null if there is none.
  [[nodiscard]] Entry* find(ncclComm_t comm) const noexcept;
  // A fresh entry in place of any old one. Beyond kMostEntries: overflow().
  Entry& insert(ncclComm_t comm, const slimccl_nccl* nccl);
  // The entry that is found, else a fresh one, and whether it is fresh: for one thread only.
  std::pair<Entry*, bool> find_or_insert(ncclComm_t comm, const slimccl_nccl* nccl);
  // What all share who have none of their own. It belongs to no copy of NCCL.
  [[nodiscard]] Entry& overflow() noexcept { return overflow_; }
  // Its communicator begins to end. It is found a while longer if `lingers`: for a handle that
  // another thread may still be using, rightly. False: it was retired before.
  bool retire(Entry& entry, bool lingers);
  // What was retired has ended, and may be used again after many others. Until then the entry is of
  // who retired it, however long that takes.
  void release(Entry& entry) noexcept;
  [[nodiscard]] bool shared(const Entry& entry) const noexcept { return &entry == &overflow_; }

  // All that are alive, in no order. For signal handlers too: it takes no lock, so that an entry
  // made or ended meanwhile may be missed.
  template <class Visitor>
  void for_each(Visitor&& visit) const {
    for (const auto& slot : slots_) {
      Entry* entry = slot.load(std::memory_order_acquire);
      if (entry != nullptr && entry != gone() && !entry->ended) visit(*entry);
    }
    if (overflowed_) visit(overflow_);
  }
  // For tests: entries made so far, in use or not.
  [[nodiscard]] size_t made() const;

 private:
  // Where an entry was, so that those behind it are still found.
  static Entry* gone() noexcept { return reinterpret_cast<Entry*>(alignof(Entry)); }
  [[nodiscard]] static size_t home(ncclComm_t comm) noexcept;
  Entry& insert_locked(ncclComm_t comm, const slimccl_nccl* nccl);
  void unlink(const Entry& entry);
  Entry& unused();

  std::array<std::atomic<Entry*>, kSlots> slots_{};
  mutable std::mutex mutex_;  // of all changes
  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<Entry*> unused_;
  std::deque<Entry*> quarantine_;
  size_t linked_ = 0;
  mutable Entry overflow_;
  std::atomic<bool> overflowed_{false};
};

}  // namespace slimccl::overlay
