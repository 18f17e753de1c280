#include "codecs/buffers.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <new>
#include <string>

namespace slimccl::perf {
namespace {

constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr uint64_t kLine = 64;
// Between neighbours, so that streams which advance together do not meet in the same cache sets.
constexpr uint64_t kStagger = 5 * kLine;

uint64_t rounded_up(uint64_t bytes, uint64_t step) { return (bytes + step - 1) / step * step; }

}  // namespace

Buffers::Buffers(int sources, uint64_t source_bytes, uint64_t sink_bytes, uint64_t total_bytes)
    : source_bytes_(source_bytes), sink_bytes_(sink_bytes) {
  const uint64_t set_bytes =
      static_cast<uint64_t>(sources) * (rounded_up(source_bytes, kLine) + kStagger) +
      rounded_up(sink_bytes, kLine) + kStagger;
  sets_ = std::max<size_t>(1, total_bytes / set_bytes);
  mapped_bytes_ = rounded_up(sets_ * set_bytes, kHugePage) + kHugePage;
  mapping_ =
      mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  madvise(mapping_, mapped_bytes_, MADV_HUGEPAGE);  // a wish: without it the pages are small
  used_bytes_ = kHugePage - reinterpret_cast<uintptr_t>(mapping_) % kHugePage;
  for (size_t set = 0; set < sets_; ++set) {
    auto& places = sources_.emplace_back();
    for (int source = 0; source < sources; ++source) places.push_back(take(source_bytes));
    sinks_.push_back(take(sink_bytes));
  }
}

Buffers::~Buffers() { munmap(mapping_, mapped_bytes_); }

std::byte* Buffers::take(uint64_t bytes) {
  std::byte* place = static_cast<std::byte*>(mapping_) + used_bytes_;
  used_bytes_ += rounded_up(bytes, kLine) + kStagger;
  return place;
}

void Buffers::fill(const std::byte* content) {
  for (size_t set = 0; set < sets_; ++set) {
    for (const std::byte* source : sources_[set]) {
      std::memcpy(const_cast<std::byte*>(source), content, source_bytes_);
    }
    std::memset(sinks_[set], 0, sink_bytes_);
  }
}

const std::vector<const std::byte*>& Buffers::sources(size_t set) const { return sources_[set]; }

bool huge_pages_are_granted() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string modes;
  std::getline(file, modes);
  return !modes.empty() && modes.find("[never]") == std::string::npos;
}

}  // namespace slimccl::perf
