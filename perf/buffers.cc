#include "buffers.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "checks.h"
#include "elements.h"

namespace slimccl::perf {
namespace {

constexpr uint64_t kAlignment = 64, kGuard = 64;
constexpr std::byte kPoison{0xa5};

}  // namespace

Memory::Memory(uint64_t bytes, const Style& style) : bytes_(bytes), comm_(style.registered_with) {
  const uint64_t all = (style.misalign + bytes + kGuard + kAlignment) / kAlignment * kAlignment;
  if (comm_ != nullptr) {
    require(ncclMemAlloc(&block_, all), "ncclMemAlloc");
    require(ncclCommRegister(comm_, block_, all, &handle_), "ncclCommRegister");
  } else {
    block_ = std::aligned_alloc(kAlignment, all);
    if (block_ == nullptr) throw std::bad_alloc();
  }
  data_ = static_cast<std::byte*>(block_) + style.misalign;
  std::fill_n(data_ + bytes_, kGuard, kPoison);
}

Memory::~Memory() {
  if (comm_ == nullptr) {
    std::free(block_);
    return;
  }
  (void)ncclCommDeregister(comm_, handle_);
  (void)ncclMemFree(block_);
}

void Memory::poison() { std::fill_n(data_, bytes_, kPoison); }

bool Memory::guard_is_intact() const {
  return std::all_of(data_ + bytes_, data_ + bytes_ + kGuard,
                     [](std::byte each) { return each == kPoison; });
}

Buffers::Buffers(const Case& test, const Inputs& inputs, int rank, bool in_place,
                 const Memory::Style& style)
    : send_bytes_(test.send_elems(rank) * element_bytes(test.type)),
      recv_bytes_(test.recv_elems(rank) * element_bytes(test.type)),
      in_place_(in_place),
      inputs_(send_bytes_, style),
      memory_(in_place ? std::max(send_bytes_, recv_bytes_) : recv_bytes_, style) {
  inputs.fill(inputs_.data(), rank, 0, test.send_elems(rank));
  hash_ = hash_bytes(inputs_.data(), send_bytes_);
  const bool sends = test.send_slots(rank) > 0;
  const bool receives = test.recv_slots(rank) > 0;
  const InPlace form = test.collective->in_place;
  if (in_place && (form == InPlace::kSame || (sends && receives))) {
    const uint64_t own = static_cast<uint64_t>(rank) * test.count * element_bytes(test.type);
    send_ = memory_.data() + (form == InPlace::kSendInRecv ? own : 0);
    recv_ = memory_.data() + (form == InPlace::kRecvInSend ? own : 0);
    return;
  }
  send_ = !sends ? nullptr : in_place ? memory_.data() : inputs_.data();
  recv_ = receives ? memory_.data() : nullptr;
}

void Buffers::prepare() {
  memory_.poison();
  restore();
}

void Buffers::restore() {
  if (in_place_ && send_bytes_ > 0) std::memcpy(send_, inputs_.data(), send_bytes_);
}

const char* Buffers::damage() const {
  if (!memory_.guard_is_intact() || !inputs_.guard_is_intact()) {
    return "memory behind a buffer was written to";
  }
  const bool overwritten = in_place_ && recv_bytes_ > 0;
  if (!overwritten && hash_bytes(send_, send_bytes_) != hash_) return "the send buffer was changed";
  return nullptr;
}

}  // namespace slimccl::perf
