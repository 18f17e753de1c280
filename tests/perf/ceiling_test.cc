// The ceilings move all the bytes that they are said to move: else kernels would be judged by a
// loop that does more or less than they do.
#include "codecs/ceiling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "codecs/cases.h"

namespace slimccl::perf {
namespace {

constexpr uint64_t kLine = 64;
constexpr uint64_t kElems = 4096;  // two superblocks: every proportion has its left-overs

using Bytes = std::unique_ptr<std::byte[], void (*)(std::byte*)>;

Bytes aligned_bytes(uint64_t bytes, int value) {
  Bytes memory(static_cast<std::byte*>(std::aligned_alloc(kLine, bytes)),
               [](std::byte* at) { std::free(at); });
  std::memset(memory.get(), value, bytes);
  return memory;
}

struct Moved {
  std::vector<Bytes> sources;
  std::vector<const std::byte*> places;
  Bytes sink;
  uint64_t source_bytes, sink_bytes;

  explicit Moved(const Case& test)
      : sink(aligned_bytes(test.sink_bytes(kElems) + kLine, 0xaa)),
        source_bytes(test.source_bytes(kElems)),
        sink_bytes(test.sink_bytes(kElems)) {
    for (int i = 0; i < test.sources; ++i) {
      sources.push_back(aligned_bytes(source_bytes, 0));
      places.push_back(sources.back().get());
    }
  }

  void move(Stores stores) { move_bytes(places, source_bytes, sink.get(), sink_bytes, stores); }

  [[nodiscard]] bool sink_is_zero() const {
    return std::all_of(sink.get(), sink.get() + sink_bytes,
                       [](std::byte value) { return value == std::byte{0}; });
  }
};

TEST(Ceiling, WritesTheWholeSinkAndNothingElse) {
  for (const Case& test : all_cases()) {
    for (const Stores stores : {Stores::kPlain, Stores::kStreaming}) {
      Moved moved(test);
      moved.move(stores);
      EXPECT_TRUE(moved.sink_is_zero()) << test.label();
      EXPECT_EQ(moved.sink[moved.sink_bytes], std::byte{0xaa}) << test.label();
    }
  }
}

TEST(Ceiling, ReadsEveryLineOfEverySource) {
  for (const Case& test : all_cases()) {
    Moved moved(test);
    for (auto& source : moved.sources) {
      for (uint64_t at = 0; at < moved.source_bytes; at += kLine) {
        std::byte& first = source[at];
        std::byte& last = source[at + kLine - 1];
        for (std::byte* marked : {&first, &last}) {
          *marked = std::byte{1};
          for (const Stores stores : {Stores::kPlain, Stores::kStreaming}) {
            moved.move(stores);
            EXPECT_FALSE(moved.sink_is_zero()) << test.label() << ", line " << at / kLine;
          }
          *marked = std::byte{0};
        }
      }
    }
  }
}

TEST(Ceiling, RefusesWhatItCannotMove) {
  const Bytes memory = aligned_bytes(kLine, 0);
  const std::byte* places[3] = {memory.get(), memory.get(), memory.get()};
  const auto move = [&](size_t sources, uint64_t bytes) {
    move_bytes({places, sources}, bytes, memory.get(), kLine, Stores::kPlain);
  };
  EXPECT_THROW(move(3, kLine), std::invalid_argument);
  EXPECT_THROW(move(1, 65), std::invalid_argument);
  EXPECT_THROW(move(1, 0), std::invalid_argument);
}

}  // namespace
}  // namespace slimccl::perf
