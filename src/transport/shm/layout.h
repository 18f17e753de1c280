// What lies in a rank's segment: a header page, then for each local rank a ring header page and the
// ring it sends to this rank through. Positions in a ring count bytes since the start and never
// wrap.
//
// Sleeping without lost wake-ups: whoever sleeps stores `sleeping`, then looks again; whoever
// brings news stores the news, then looks at `sleeping`. All four are sequentially consistent
// operations (not fences, which thread sanitizers do not see), so that at least one of the two
// notices the other.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/bytes.h"

namespace slimccl::transport::shm {

constexpr uint64_t kMagic = 0x316d'6873'6c63'6c73;  // "slclshm1"
constexpr uint64_t kPage = 4096;
constexpr uint64_t kGrain =
    16;  // frames and pieces start at multiples of this, so a frame header never wraps

enum class OwnerState : uint32_t { kOpen, kLeft, kAborted };

struct SegmentHeader {
  uint64_t magic;
  uint64_t nonce;  // also in the owner's address: a stranger's file of the same name does not pass
  uint64_t ring_bytes;
  uint64_t rings;
  alignas(64) std::atomic<uint32_t> sleeping;
  std::atomic<OwnerState> state;       // stored after all that the owner wrote anywhere
  std::array<char, 512> abort_reason;  // valid once state is kAborted; zero-terminated
};

struct RingHeader {
  alignas(64) std::atomic<uint64_t> tail;          // the sender's
  alignas(64) std::atomic<uint64_t> head;          // the receiver's
  alignas(64) std::atomic<uint32_t> sender_waits;  // it sleeps until half of the ring is free
};

struct FrameHeader {
  uint64_t tag;
  uint64_t bytes;  // followed by that many, padded to kGrain
};

static_assert(sizeof(SegmentHeader) <= kPage && sizeof(RingHeader) <= kPage);
static_assert(sizeof(FrameHeader) == kGrain);
static_assert(std::atomic<uint64_t>::is_always_lock_free &&
              std::atomic<uint32_t>::is_always_lock_free);

[[nodiscard]] constexpr uint64_t ring_offset(uint64_t index, uint64_t ring_bytes) {
  return kPage + index * (kPage + ring_bytes);
}

}  // namespace slimccl::transport::shm
