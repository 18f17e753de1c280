// Judges a collective's result: every element against a bound derived from the data, the gain of
// the whole, and equal bits between replicas. Pure; tests/perf/checks_test.cc feeds it corrupted
// data. The bounds are those of docs/formats/, in our own words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace slimccl::perf {

// Adds to bound[i] the largest error that sending `values` as one message in `codec` ("q8", "q4s",
// "bf16"; anything else adds nothing) may make in element i. Blocks count from values[0].
void add_codec_bound(std::string_view codec, std::span<const double> values,
                     std::span<double> bound);

// For messages whose blocks start at unknown places: each bound becomes the largest within its
// block of 64 and the two beside it.
void widen(std::span<double> bound);

struct Accuracy {
  uint64_t elems = 0;
  uint64_t wrong = 0;  // elements beyond their bound, or not finite
  double worst = 0;    // largest |error| / bound where the bound is not 0; 0 of exact ones
  double sqnr_db = std::numeric_limits<double>::infinity();
  double gain = 1;  // least squares: result = gain * expected
};

// Collects any number of elements; also sums of other judges' collections, by plain addition.
class Judge {
 public:
  void add(std::span<const double> expected, std::span<const double> actual,
           std::span<const double> bound);
  // Elements of `width` bytes that must be equal bit by bit.
  void add_exact(std::span<const std::byte> expected, std::span<const std::byte> actual,
                 size_t width);
  void add(const Judge& other);
  [[nodiscard]] Accuracy result() const;

 private:
  uint64_t elems_ = 0;
  uint64_t wrong_ = 0;
  double worst_ = 0;
  double expected_squares_ = 0;
  double error_squares_ = 0;
  double products_ = 0;
};

// Why `accuracy` is not good enough, or an empty text. `tolerance`: of the gain; 0 to leave it
// out. Gains of fewer than 64 Ki elements say little and are left out too.
[[nodiscard]] std::string complaint(const Accuracy& accuracy, double tolerance);

// How far from 1 the gain of a codec may be: 0.01 with q4s, 0.002 with q8 alone, 0 otherwise.
[[nodiscard]] double gain_tolerance(std::string_view codec);

[[nodiscard]] uint64_t hash_bytes(const void* data, size_t bytes);

// hashes[rank * slots + slot]; owner(slot) is slot itself and is left out when `foreign_only` (the
// own slot of an all-gather may be exact). Returns the ranks that differ from the lowest-numbered
// one that holds the same slot.
[[nodiscard]] std::vector<int> differing_ranks(std::span<const uint64_t> hashes, size_t slots,
                                               bool foreign_only);

}  // namespace slimccl::perf
