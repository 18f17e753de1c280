#include "codecs/ceiling.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codecs/ceiling.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <stdexcept>
#include <string>

HWY_BEFORE_NAMESPACE();
namespace slimccl::perf::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<uint8_t>;
using Vector = hn::Vec<Tag>;
constexpr uint64_t kLine = 64;

// The lines of one call: `steps` times `reads` lines of each source and `writes` of the sink, and
// what is left over on one side.
struct Lines {
  const uint8_t* const* sources;
  uint8_t* sink;
  uint64_t source_lines, sink_lines;
};

HWY_INLINE Vector read_line(const uint8_t* line, Vector seen) {
  const Tag tag;
  for (uint64_t at = 0; at < kLine; at += hn::Lanes(tag)) {
    seen = hn::Or(seen, hn::Load(tag, line + at));
  }
  return seen;
}

template <bool kStreams>
HWY_INLINE void write_line(uint8_t* line, Vector value) {
  const Tag tag;
  for (uint64_t at = 0; at < kLine; at += hn::Lanes(tag)) {
    if constexpr (kStreams) {
      hn::Stream(value, tag, line + at);
    } else {
      hn::Store(value, tag, line + at);
    }
  }
}

template <bool kStreams, int kSources, uint64_t kReads, uint64_t kWrites>
void move(const Lines& lines) {
  const uint64_t steps = std::min(lines.source_lines / kReads, lines.sink_lines / kWrites);
  Vector left_over = hn::Zero(Tag());
  for (uint64_t line = steps * kReads; line < lines.source_lines; ++line) {
    for (int source = 0; source < kSources; ++source) {
      left_over = read_line(lines.sources[source] + line * kLine, left_over);
    }
  }
  for (uint64_t step = 0; step < steps; ++step) {
    Vector seen = left_over;
    for (int source = 0; source < kSources; ++source) {
      for (uint64_t line = 0; line < kReads; ++line) {
        seen = read_line(lines.sources[source] + (step * kReads + line) * kLine, seen);
      }
    }
    for (uint64_t line = 0; line < kWrites; ++line) {
      write_line<kStreams>(lines.sink + (step * kWrites + line) * kLine, seen);
    }
  }
  for (uint64_t line = steps * kWrites; line < lines.sink_lines; ++line) {
    write_line<kStreams>(lines.sink + line * kLine, left_over);
  }
  if constexpr (kStreams) hwy::FlushStream();
}

// The step nearest to the proportion of the two sides: 8, 4, 2 or 1 lines to 1, or 1 to as many.
template <bool kStreams, int kSources>
void move_in_proportion(const Lines& lines) {
  const bool more_reads = lines.source_lines >= lines.sink_lines;
  const uint64_t few = more_reads ? lines.sink_lines : lines.source_lines;
  const uint64_t many = more_reads ? lines.source_lines : lines.sink_lines;
  const uint64_t proportion = (many + few / 2) / few;
  if (proportion >= 6) {
    more_reads ? move<kStreams, kSources, 8, 1>(lines) : move<kStreams, kSources, 1, 8>(lines);
  } else if (proportion >= 3) {
    more_reads ? move<kStreams, kSources, 4, 1>(lines) : move<kStreams, kSources, 1, 4>(lines);
  } else if (proportion == 2) {
    more_reads ? move<kStreams, kSources, 2, 1>(lines) : move<kStreams, kSources, 1, 2>(lines);
  } else {
    move<kStreams, kSources, 1, 1>(lines);
  }
}

template <bool kStreams>
void move_sources(const Lines& lines, size_t sources) {
  switch (sources) {
    case 1:
      return move_in_proportion<kStreams, 1>(lines);
    case 2:
      return move_in_proportion<kStreams, 2>(lines);
    case 4:
      return move_in_proportion<kStreams, 4>(lines);
    case 8:
      return move_in_proportion<kStreams, 8>(lines);
    default:
      throw std::invalid_argument("move_bytes: 1, 2, 4 or 8 sources, not " +
                                  std::to_string(sources));
  }
}

void move_lines(const uint8_t* const* sources, size_t count, uint64_t source_bytes, uint8_t* sink,
                uint64_t sink_bytes, bool streams) {
  const Lines lines = {sources, sink, source_bytes / kLine, sink_bytes / kLine};
  streams ? move_sources<true>(lines, count) : move_sources<false>(lines, count);
}

}  // namespace
}  // namespace slimccl::perf::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace slimccl::perf {
namespace {
HWY_EXPORT(move_lines);
}

void move_bytes(std::span<const std::byte* const> sources, uint64_t source_bytes, std::byte* sink,
                uint64_t sink_bytes, Stores stores) {
  if (source_bytes % 64 != 0 || sink_bytes % 64 != 0 || source_bytes == 0 || sink_bytes == 0) {
    throw std::invalid_argument("move_bytes: sizes must be multiples of 64, not " +
                                std::to_string(source_bytes) + " and " +
                                std::to_string(sink_bytes));
  }
  HWY_DYNAMIC_DISPATCH(move_lines)
  (reinterpret_cast<const uint8_t* const*>(sources.data()), sources.size(), source_bytes,
   reinterpret_cast<uint8_t*>(sink), sink_bytes, stores == Stores::kStreaming);
}

}  // namespace slimccl::perf
#endif
