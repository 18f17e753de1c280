// The operations under way of one transport, by ticket. A ticket is a slot number and the slot's
// generation, so that a ticket polled after its end, or one of another transport, finds nothing
// instead of a stranger's operation. An Operation stays where it is until its ticket dies:
// callbacks may hold pointers to it.
#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "transport/transport.h"

namespace slimccl::transport {

// Operation has a member `Progress state`.
template <class Operation>
class TicketTable {
 public:
  [[nodiscard]] Ticket add(Operation operation) {
    if (free_.empty()) {
      slots_.emplace_back();
      free_.reserve(slots_.size());  // poll() must not throw
      free_.push_back(static_cast<uint32_t>(slots_.size() - 1));
    }
    const uint32_t index = free_.back();
    free_.pop_back();
    slots_[index].operation = std::move(operation);
    slots_[index].live = true;
    return (uint64_t{slots_[index].generation} << 32) | index;
  }

  // Null if the ticket is dead.
  [[nodiscard]] Operation* find(Ticket ticket) noexcept {
    const uint64_t index = ticket & UINT32_MAX;
    if (index >= slots_.size()) return nullptr;
    Slot& slot = slots_[index];
    return slot.live && slot.generation == ticket >> 32 ? &slot.operation : nullptr;
  }

  // The state; an ended operation's ticket dies. A dead ticket has failed.
  [[nodiscard]] Progress poll(Ticket ticket) noexcept {
    Operation* operation = find(ticket);
    if (operation == nullptr) return Progress::kFailed;
    const Progress state = operation->state;
    if (state != Progress::kPending) {
      Slot& slot = slots_[ticket & UINT32_MAX];
      slot.operation = Operation{};
      slot.live = false;
      ++slot.generation;
      free_.push_back(static_cast<uint32_t>(ticket & UINT32_MAX));
    }
    return state;
  }

  template <class F>
  void for_each_pending(F&& visit) {
    for (Slot& slot : slots_) {
      if (slot.live && slot.operation.state == Progress::kPending) visit(slot.operation);
    }
  }

 private:
  struct Slot {
    Operation operation{};
    uint32_t generation = 1;
    bool live = false;
  };
  std::deque<Slot> slots_;
  std::vector<uint32_t> free_;
};

}  // namespace slimccl::transport
