// The two ends of a ring in shared memory. Both work on the largest piece that lies in one stretch,
// and tell the other side only when asked to (publish, release): its cache line moves once for many
// small frames.
#pragma once

#include <algorithm>

#include "transport/shm/layout.h"

namespace slimccl::transport::shm {

class RingWriter {
 public:
  RingWriter(RingHeader* header, std::byte* data, uint64_t capacity)
      : header_(header), data_(data), capacity_(capacity) {}

  [[nodiscard]] Bytes writable() const noexcept {
    const uint64_t at = tail_ & (capacity_ - 1);
    return {data_ + at, std::min(free_bytes(), capacity_ - at)};
  }
  void advance(uint64_t bytes) noexcept { tail_ += bytes; }
  [[nodiscard]] uint64_t unpublished() const noexcept { return tail_ - published_; }
  void publish() noexcept { header_->tail.store(published_ = tail_); }

  // Before sleeping for space; the caller looks at has_space() again afterwards.
  void announce_wait() noexcept { header_->sender_waits.store(1); }
  [[nodiscard]] bool has_space() const noexcept { return free_bytes() > 0; }

 private:
  [[nodiscard]] uint64_t free_bytes() const noexcept {
    return capacity_ - (tail_ - header_->head.load());
  }

  RingHeader* header_;
  std::byte* data_;
  uint64_t capacity_;
  uint64_t tail_ = 0, published_ = 0;
};

class RingReader {
 public:
  RingReader(RingHeader* header, const std::byte* data, uint64_t capacity)
      : header_(header), data_(data), capacity_(capacity) {}

  [[nodiscard]] ConstBytes readable() const noexcept {
    const uint64_t at = head_ & (capacity_ - 1);
    return {data_ + at, std::min(header_->tail.load() - head_, capacity_ - at)};
  }
  void advance(uint64_t bytes) noexcept { head_ += bytes; }
  [[nodiscard]] uint64_t unreleased() const noexcept { return head_ - released_; }

  // True if the sender asked for space and now has enough to be woken for.
  [[nodiscard]] bool release() noexcept {
    header_->head.store(released_ = head_);
    if (header_->sender_waits.load() == 0) return false;
    if (header_->tail.load() - head_ > capacity_ / 2)
      return false;  // comes again: the ring is read until empty
    header_->sender_waits.store(0);
    return true;
  }

 private:
  RingHeader* header_;
  const std::byte* data_;
  uint64_t capacity_;
  uint64_t head_ = 0, released_ = 0;
};

}  // namespace slimccl::transport::shm
