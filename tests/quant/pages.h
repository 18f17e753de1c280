// Memory that tests may not leave: the kernel ends a process that reads or writes beside it.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace slimccl::quant::testing {

// `bytes` bytes between two inaccessible pages: `offset` bytes beyond the first one, or as close to
// the last one as `align` allows. What is left of the pages in between holds kFill.
class Pages {
 public:
  Pages(uint64_t bytes, uint64_t offset, bool at_end, uint64_t align)
      : inside_((bytes + offset + kPage - 1) / kPage * kPage), bytes_(bytes) {
    void* memory =
        mmap(nullptr, inside_ + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("mmap of a test's buffer failed");
    begin_ = static_cast<std::byte*>(memory) + kPage;
    if (mprotect(begin_, inside_, PROT_READ | PROT_WRITE) != 0) {
      throw std::runtime_error("mprotect of a test's buffer failed");
    }
    std::memset(begin_, kFill, inside_);
    data_ = begin_ + (at_end ? (inside_ - bytes) / align * align : offset);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { munmap(begin_ - kPage, inside_ + 2 * kPage); }

  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  bool rest_is_untouched() const {
    const auto filled = [](std::byte value) { return value == std::byte{kFill}; };
    return std::all_of(begin_, data_, filled) &&
           std::all_of(data_ + bytes_, begin_ + inside_, filled);
  }

 private:
  static constexpr uint64_t kPage = 4096;
  static constexpr uint8_t kFill = 0xa5;
  uint64_t inside_, bytes_;
  std::byte *begin_, *data_;
};

}  // namespace slimccl::quant::testing
