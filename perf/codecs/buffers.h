// The memory that one kernel of the codec benchmark works on: `sets()` times its sources and its
// sink, in huge pages where the system grants them. Kernels that are compared use the same Buffers.
// One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace slimccl::perf {

class Buffers {
 public:
  // As many sets as fill `total_bytes`, at least one. Throws std::bad_alloc.
  Buffers(int sources, uint64_t source_bytes, uint64_t sink_bytes, uint64_t total_bytes);
  ~Buffers();
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  // Every source of every set becomes a copy of `content`, which has source_bytes bytes; sinks are
  // touched.
  void fill(const std::byte* content);

  [[nodiscard]] size_t sets() const { return sets_; }
  // The set that was used longest ago: whoever takes turns on these buffers shares one order.
  [[nodiscard]] size_t next_set() { return next_ = (next_ + 1) % sets_; }
  [[nodiscard]] const std::vector<const std::byte*>& sources(size_t set) const;
  [[nodiscard]] std::byte* sink(size_t set) const { return sinks_[set]; }

 private:
  [[nodiscard]] std::byte* take(uint64_t bytes);

  uint64_t source_bytes_, sink_bytes_;
  uint64_t mapped_bytes_ = 0, used_bytes_ = 0;
  void* mapping_ = nullptr;
  size_t sets_, next_ = 0;
  std::vector<std::vector<const std::byte*>> sources_;
  std::vector<std::byte*> sinks_;
};

// True when the system grants huge pages to who asks, as Buffers does.
[[nodiscard]] bool huge_pages_are_granted();

}  // namespace slimccl::perf
