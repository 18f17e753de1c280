// What memory the kernels of the twin may touch. Every access of theirs comes through here, and is
// refused unless it is aligned to its size, as on a GPU.
#pragma once

#include <cstdint>
#include <vector>

namespace slimccl::twin {

struct Range {
  const void* begin;
  uint64_t bytes;
  bool writable;
};

// While it lives, kernels that its thread runs may touch these ranges only.
class OnlyMemory {
 public:
  explicit OnlyMemory(std::vector<Range> ranges);
  ~OnlyMemory();
  OnlyMemory(const OnlyMemory&) = delete;
  OnlyMemory& operator=(const OnlyMemory&) = delete;

 private:
  std::vector<Range> ranges_;
};

// Where an access goes: for emulated devices, whose addresses are not the CPU's. Calls fail() where
// there is no such memory. Called on the thread that runs the grid.
using Translate = void*(const void* address, uint32_t bytes, bool write);

// For all threads from now on; null, as at first, means that addresses are the CPU's own.
void set_translation(Translate* translate);

}  // namespace slimccl::twin
