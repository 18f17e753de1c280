// What the overlay counts: operations, and why each call was exact.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

namespace slimccl::overlay {

// X(enumerator, name): the calls that carry data. ncclBcast is a broadcast.
#define SLIMCCL_OPERATIONS(X)         \
  X(kAllReduce, "all_reduce")         \
  X(kReduceScatter, "reduce_scatter") \
  X(kAllGather, "all_gather")         \
  X(kBroadcast, "broadcast")          \
  X(kReduce, "reduce")                \
  X(kAlltoAll, "all_to_all")          \
  X(kGather, "gather")                \
  X(kScatter, "scatter")              \
  X(kSend, "send")                    \
  X(kRecv, "recv")

// X(enumerator, text): why a call is exact, or that it is not. Those from kProfile to kOneNode hold
// for all calls of a communicator, as kActivations may.
#define SLIMCCL_REASONS(X)                     \
  X(kCompressed, "compressed")                 \
  X(kCompressible, "would be compressed")      \
  X(kProfile, "profile exact")                 \
  X(kUnseen, "its making was not seen")        \
  X(kNotAgreed, "the ranks have not agreed")   \
  X(kNonBlocking, "non-blocking communicator") \
  X(kNoTag, "unique id without a tag")         \
  X(kVersion, "versions differ")               \
  X(kSettings, "settings differ")              \
  X(kKernels, "CUDA kernels")                  \
  X(kArena, "no memory for the arena")         \
  X(kNode, "no node communicator")             \
  X(kOneNode, "one node")                      \
  X(kPointToPoint, "point to point")           \
  X(kOperation, "operation")                   \
  X(kType, "type")                             \
  X(kReduction, "reduction")                   \
  X(kEmpty, "no elements")                     \
  X(kFloor, "under the floor")                 \
  X(kWindow, "windows registered")             \
  X(kCapture, "stream capture")                \
  X(kPaused, "paused")                         \
  X(kRule, "rule")                             \
  X(kActivations, "named as activations")      \
  X(kNoEvidence, "no evidence")                \
  X(kImplausible, "implausible content")       \
  X(kExactIsFaster, "exact is faster")

#define SLIMCCL_ENUMERATOR(name, text) name,
enum class Operation : uint8_t { SLIMCCL_OPERATIONS(SLIMCCL_ENUMERATOR) };
enum class Reason : uint8_t { SLIMCCL_REASONS(SLIMCCL_ENUMERATOR) };
#undef SLIMCCL_ENUMERATOR

#define SLIMCCL_TEXT(name, text) text,
inline constexpr std::string_view kOperationNames[] = {SLIMCCL_OPERATIONS(SLIMCCL_TEXT)};
inline constexpr std::string_view kReasonTexts[] = {SLIMCCL_REASONS(SLIMCCL_TEXT)};
#undef SLIMCCL_TEXT
inline constexpr size_t kOperations = std::size(kOperationNames);
inline constexpr size_t kReasons = std::size(kReasonTexts);

[[nodiscard]] constexpr std::string_view name(Operation op) {
  return kOperationNames[static_cast<size_t>(op)];
}
[[nodiscard]] constexpr std::string_view text(Reason reason) {
  return kReasonTexts[static_cast<size_t>(reason)];
}

// One communicator's numbers, or the sum of many. Any thread; a reader sees each number as of some
// time, not all of one time.
struct Counts {
  using Number = std::atomic<uint64_t>;

  std::array<std::array<Number, kReasons>, kOperations> calls{};
  std::array<Number, kOperations> elems{}, bytes{};
  // Of the calls that are compressed, or would be: their elements, and what this rank sends to
  // other nodes, exactly and compressed.
  std::array<Number, kOperations> compressed_elems{}, exact_bytes{}, compressed_bytes{};

  static void add(Number& number, uint64_t more) noexcept {
    number.fetch_add(more, std::memory_order_relaxed);
  }
  static uint64_t read(const Number& number) noexcept {
    return number.load(std::memory_order_relaxed);
  }
  static uint64_t sum(const std::array<Number, kOperations>& numbers) noexcept;
  void operator+=(const Counts& other) noexcept;
  void clear() noexcept;
  [[nodiscard]] uint64_t calls_of(Operation op) const noexcept;
  [[nodiscard]] uint64_t calls_because(Reason reason) const noexcept;
  [[nodiscard]] uint64_t all_calls() const noexcept;
};

}  // namespace slimccl::overlay
