// The operating system's side: a segment in memory, a doorbell to be poked by, and a peer's
// liveness.
#pragma once

#include <sys/mman.h>

#include <memory>
#include <string>

#include "base/handle.h"
#include "transport/shm/layout.h"

namespace slimccl::transport::shm {

class Segment {
 public:
  // Makes the file with all its memory, or throws Error saying how much was wanted.
  static Segment create(const std::string& path, uint64_t ring_bytes, uint64_t rings,
                        uint64_t nonce);
  // Maps a peer's; throws Error if it is not the one its address told of.
  static Segment open(const std::string& path, uint64_t ring_bytes, uint64_t rings, uint64_t nonce);

  [[nodiscard]] SegmentHeader& header() const noexcept {
    return *reinterpret_cast<SegmentHeader*>(memory_.get());
  }
  [[nodiscard]] RingHeader* ring(uint64_t index) const noexcept {
    return reinterpret_cast<RingHeader*>(memory_.get() + ring_offset(index, header().ring_bytes));
  }
  [[nodiscard]] std::byte* ring_data(uint64_t index) const noexcept {
    return memory_.get() + ring_offset(index, header().ring_bytes) + kPage;
  }

 private:
  struct Unmap {
    uint64_t bytes;
    void operator()(std::byte* memory) const noexcept { munmap(memory, bytes); }
  };
  Segment(const std::string& path, int fd, uint64_t bytes);
  std::unique_ptr<std::byte, Unmap> memory_;
};

// A FIFO whose owner sleeps on it. Both sides open it for reading too, so that ringing a dead
// owner's bell is no SIGPIPE; a full pipe is as good as another byte.
class Bell {
 public:
  static Bell create(const std::string& path);
  static Bell open(const std::string& path);
  void ring() const noexcept;
  void silence() const noexcept;
  [[nodiscard]] int fd() const noexcept { return fifo_.get(); }

 private:
  Fd fifo_;
};

// Where process ids mean the same: the boot and the pid namespace, as text.
[[nodiscard]] std::string pid_world();

struct Life {
  bool dead = false;  // it was gone already
  Fd pidfd;           // readable when it dies; none if the kernel cannot tell
};
[[nodiscard]] Life watch(int pid);

}  // namespace slimccl::transport::shm
