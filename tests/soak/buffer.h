// Memory of a call, between guard bytes, and what it must hold afterwards.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace soak {

class Buffer {
 public:
  // `bytes` that start `shift` after an address aligned to a cache line.
  Buffer(size_t bytes, size_t shift) : bytes_(bytes), storage_(bytes + shift + 3 * kGuard) {
    std::memset(storage_.data(), kPattern, storage_.size());
    const auto address = reinterpret_cast<uintptr_t>(storage_.data()) + kGuard;
    start_ = (address + kGuard - 1) / kGuard * kGuard - address + kGuard + shift;
    expected_ = storage_;
  }

  [[nodiscard]] std::byte* data() { return storage_.data() + start_; }
  // Where to write what the call must leave.
  [[nodiscard]] std::byte* expected() { return expected_.data() + start_; }

  // Empty if all is as expected, guards included.
  [[nodiscard]] std::string difference(size_t element_bytes) const {
    if (std::memcmp(storage_.data(), expected_.data(), storage_.size()) == 0) return "";
    const auto place = std::mismatch(storage_.begin(), storage_.end(), expected_.begin());
    const int64_t offset = place.first - storage_.begin() - static_cast<int64_t>(start_);
    const bool inside = offset >= 0 && static_cast<size_t>(offset) < bytes_;
    std::string text =
        inside ? "element " + std::to_string(offset / static_cast<int64_t>(element_bytes))
               : "guard byte " + std::to_string(offset);
    const int64_t first =
        inside ? offset / static_cast<int64_t>(element_bytes) * static_cast<int64_t>(element_bytes)
               : offset;
    const auto show = [&](const std::vector<std::byte>& all) {
      std::string hex;
      for (size_t i = 0; i < (inside ? element_bytes : 1); ++i) {
        char two[3];
        snprintf(two, sizeof two, "%02x",
                 static_cast<unsigned>(all[start_ + static_cast<size_t>(first) + i]));
        hex += two;
      }
      return hex;
    };
    return text + " of " + std::to_string(bytes_ / element_bytes) + ": bytes " + show(storage_) +
           ", expected " + show(expected_);
  }

 private:
  static constexpr size_t kGuard = 64;
  static constexpr int kPattern = 0xc5;

  size_t bytes_, start_ = 0;
  std::vector<std::byte> storage_, expected_;
};

}  // namespace soak
