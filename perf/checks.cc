#include "checks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

namespace slimccl::perf {
namespace {

double largest(std::span<const double> values) {
  double most = 0;
  for (const double value : values) most = std::max(most, std::fabs(value));
  return most;
}

void add_to(std::span<double> bound, double amount) {
  for (double& each : bound) each += amount;
}

}  // namespace

void add_codec_bound(std::string_view codec, std::span<const double> values,
                     std::span<double> bound) {
  constexpr size_t kSuperblock = 2048;
  const size_t block = codec == "q8" ? 64 : 32;
  if (codec == "bf16") {
    for (size_t i = 0; i < values.size(); ++i) bound[i] += std::fabs(values[i]) * 0x1p-8;
    return;
  }
  if (codec != "q8" && codec != "q4s") return;
  for (size_t super = 0; super < values.size(); super += kSuperblock) {
    const size_t super_end = std::min(super + kSuperblock, values.size());
    // q4s, subnormal scales: 2^-17 of the superblock's maximum.
    const double least =
        codec == "q4s" ? 0x1p-17 * largest(values.subspan(super, super_end - super)) : 0;
    for (size_t at = super; at < super_end; at += block) {
      const size_t size = std::min(block, super_end - at);
      const double peak = largest(values.subspan(at, size));
      // q8: half of a bf16-rounded scale. q4s: 1.5 steps of an E4M3-rounded eighth of the peak.
      const double most = codec == "q8" ? peak / 254 * (1 + 0x1p-8) : 1.5 * peak / 8 * (1 + 0x1p-4);
      add_to(bound.subspan(at, size), std::max(most, least));
    }
  }
}

void widen(std::span<double> bound) {
  constexpr size_t kBlock = 64;
  std::vector<double> peaks;
  for (size_t at = 0; at < bound.size(); at += kBlock) {
    peaks.push_back(largest(bound.subspan(at, std::min(kBlock, bound.size() - at))));
  }
  for (size_t i = 0; i < bound.size(); ++i) {
    const size_t block = i / kBlock;
    bound[i] = peaks[block];
    if (block > 0) bound[i] = std::max(bound[i], peaks[block - 1]);
    if (block + 1 < peaks.size()) bound[i] = std::max(bound[i], peaks[block + 1]);
  }
}

void Judge::add(std::span<const double> expected, std::span<const double> actual,
                std::span<const double> bound) {
  elems_ += expected.size();
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(actual[i] - expected[i]);
    if (!(error <= bound[i])) ++wrong_;
    if (bound[i] > 0) worst_ = std::max(worst_, error / bound[i]);
    expected_squares_ += expected[i] * expected[i];
    error_squares_ += error * error;
    products_ += expected[i] * actual[i];
  }
}

void Judge::add_exact(std::span<const std::byte> expected, std::span<const std::byte> actual,
                      size_t width) {
  elems_ += expected.size() / width;
  if (std::ranges::equal(expected, actual)) return;
  for (size_t at = 0; at < expected.size(); at += width) {
    if (!std::ranges::equal(expected.subspan(at, width), actual.subspan(at, width))) ++wrong_;
  }
}

void Judge::add(const Judge& other) {
  elems_ += other.elems_;
  wrong_ += other.wrong_;
  worst_ = std::max(worst_, other.worst_);
  expected_squares_ += other.expected_squares_;
  error_squares_ += other.error_squares_;
  products_ += other.products_;
}

Accuracy Judge::result() const {
  Accuracy accuracy{.elems = elems_, .wrong = wrong_, .worst = worst_};
  if (error_squares_ > 0) accuracy.sqnr_db = 10 * std::log10(expected_squares_ / error_squares_);
  if (expected_squares_ > 0) accuracy.gain = products_ / expected_squares_;
  return accuracy;
}

std::string complaint(const Accuracy& accuracy, double tolerance) {
  std::ostringstream text;
  if (accuracy.wrong > 0) {
    text << accuracy.wrong << " of " << accuracy.elems
         << " elements are wrong or beyond their bound";
    if (accuracy.worst > 0) text << " (worst error / bound " << accuracy.worst << ")";
  } else if (tolerance > 0 && accuracy.elems >= 65536 &&
             !(std::fabs(accuracy.gain - 1) <= tolerance)) {
    text << "gain " << accuracy.gain << " is outside 1 +- " << tolerance;
  }
  return text.str();
}

double gain_tolerance(std::string_view codec) {
  if (codec.find("q4s") != std::string_view::npos) return 0.01;
  return codec.find("q8") != std::string_view::npos ? 0.002 : 0;
}

uint64_t hash_bytes(const void* data, size_t bytes) {
  const auto* at = static_cast<const unsigned char*>(data);
  uint64_t hash = 0x9e3779b97f4a7c15u ^ bytes;
  while (bytes > 0) {
    uint64_t word = 0;
    const size_t size = std::min<size_t>(8, bytes);
    std::memcpy(&word, at, size);
    hash = (hash ^ word) * 0xff51afd7ed558ccdu;
    hash ^= hash >> 32;
    at += size;
    bytes -= size;
  }
  return hash;
}

std::vector<int> differing_ranks(std::span<const uint64_t> hashes, size_t slots,
                                 bool foreign_only) {
  std::vector<int> ranks;
  const size_t count = slots == 0 ? 0 : hashes.size() / slots;
  for (size_t rank = 0; rank < count; ++rank) {
    for (size_t slot = 0; slot < slots; ++slot) {
      if (foreign_only && slot == rank) continue;
      const size_t first = foreign_only && slot == 0 && count > 1 ? 1 : 0;
      if (hashes[rank * slots + slot] != hashes[first * slots + slot]) {
        ranks.push_back(static_cast<int>(rank));
        break;
      }
    }
  }
  return ranks;
}

}  // namespace slimccl::perf
