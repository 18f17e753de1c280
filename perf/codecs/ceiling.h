// The ceiling of a kernel: a loop that reads and writes the kernel's bytes and computes nothing. A
// kernel's speed is stated as a fraction of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace slimccl::perf {

enum class Stores : uint8_t {
  kPlain,
  kStreaming,  // past the caches
};

// Reads every byte of the sources, 1, 2, 4 or 8 of `source_bytes` each, and writes every byte of
// the sink, side by side as a kernel does, with the widest vectors of this CPU. All addresses and
// sizes are multiples of 64. Each written vector depends on read ones, so no read can be left out.
void move_bytes(std::span<const std::byte* const> sources, uint64_t source_bytes, std::byte* sink,
                uint64_t sink_bytes, Stores stores);

}  // namespace slimccl::perf
