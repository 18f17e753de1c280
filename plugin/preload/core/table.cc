#include "core/table.h"

#include <algorithm>

namespace slimccl::overlay {

size_t Table::home(ncclComm_t comm) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(comm);
  return static_cast<size_t>((address >> 4) * 0x9e3779b97f4a7c15ULL >> 51);
}
static_assert(Table::kSlots == size_t{1} << (64 - 51));

Entry* Table::find(ncclComm_t comm) const noexcept {
  for (size_t at = home(comm), looked = 0; looked < kSlots; ++looked, at = (at + 1) % kSlots) {
    Entry* entry = slots_[at].load(std::memory_order_acquire);
    if (entry == nullptr) return nullptr;
    if (entry != gone() && entry->comm.load(std::memory_order_relaxed) == comm) return entry;
  }
  return nullptr;
}

Entry& Table::insert(ncclComm_t comm, const slimccl_nccl* nccl) {
  const std::lock_guard lock(mutex_);
  if (Entry* old = find(comm); old != nullptr) {
    unlink(*old);
    if (!old->ended.exchange(true)) quarantine_.push_back(old);
  }
  return insert_locked(comm, nccl);
}

std::pair<Entry*, bool> Table::find_or_insert(ncclComm_t comm, const slimccl_nccl* nccl) {
  const std::lock_guard lock(mutex_);
  if (Entry* there = find(comm); there != nullptr) return {there, false};
  Entry& entry = insert_locked(comm, nccl);
  return {&entry, !shared(entry)};
}

Entry& Table::insert_locked(ncclComm_t comm, const slimccl_nccl* nccl) {
  if (linked_ == kMostEntries) {
    overflowed_ = true;
    return overflow_;
  }
  Entry& entry = unused();
  entry.comm = comm;
  entry.nccl = nccl;
  size_t at = home(comm);
  const auto taken = [&] {
    const Entry* there = slots_[at].load(std::memory_order_relaxed);
    return there != nullptr && there != gone();
  };
  while (taken()) at = (at + 1) % kSlots;
  slots_[at].store(&entry, std::memory_order_release);
  ++linked_;
  return entry;
}

Entry& Table::unused() {
  while (quarantine_.size() > kQuarantine) {
    Entry* oldest = quarantine_.front();
    quarantine_.pop_front();
    unlink(*oldest);
    oldest->reset();
    unused_.push_back(oldest);
  }
  if (unused_.empty()) {
    entries_.push_back(std::make_unique<Entry>());
    return *entries_.back();
  }
  Entry* entry = unused_.back();
  unused_.pop_back();
  return *entry;
}

bool Table::retire(Entry& entry, bool lingers) {
  const std::lock_guard lock(mutex_);
  if (shared(entry) || entry.ended.exchange(true)) return false;
  if (!lingers) unlink(entry);
  return true;
}

void Table::release(Entry& entry) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    quarantine_.push_back(&entry);
  } catch (const std::exception&) {  // no memory: then it is never used again
  }
}

void Table::unlink(const Entry& entry) {
  size_t at = home(entry.comm);
  for (size_t looked = 0; slots_[at].load(std::memory_order_relaxed) != &entry; ++looked) {
    if (looked == kSlots || slots_[at].load(std::memory_order_relaxed) == nullptr) return;
    at = (at + 1) % kSlots;
  }
  slots_[at].store(gone(), std::memory_order_release);
  --linked_;
  // Marks that nothing lies behind are not needed: else they would fill the table in time.
  if (slots_[(at + 1) % kSlots].load(std::memory_order_relaxed) != nullptr) return;
  while (slots_[at].load(std::memory_order_relaxed) == gone()) {
    slots_[at].store(nullptr, std::memory_order_release);
    at = (at + kSlots - 1) % kSlots;
  }
}

size_t Table::made() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

}  // namespace slimccl::overlay
