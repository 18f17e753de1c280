#include "cuda/twin/memory.h"

#include <atomic>
#include <sstream>
#include <utility>

#include "cuda/twin/device.h"
#include "quant/cuda/access.cuh"

namespace slimccl::twin {
namespace {

thread_local const std::vector<Range>* allowed = nullptr;  // null: everything
std::atomic<Translate*> translation = nullptr;

[[noreturn]] void refuse(const void* address, uint32_t bytes, bool write, const char* why) {
  std::ostringstream text;
  text << (write ? "a write of " : "a read of ") << bytes << " bytes at " << address << why;
  fail(text.str());
}

bool covers(const Range& range, uintptr_t begin, uint32_t bytes, bool write) {
  const auto first = reinterpret_cast<uintptr_t>(range.begin);
  return begin >= first && begin - first + bytes <= range.bytes && (range.writable || !write);
}

void* checked(const void* address, uint32_t bytes, bool write) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  if (begin % bytes != 0) refuse(address, bytes, write, ", which is not aligned to its size");
  if (allowed != nullptr) {
    bool found = false;
    for (const Range& range : *allowed) found |= covers(range, begin, bytes, write);
    if (!found) refuse(address, bytes, write, ", which is in no buffer that allows it");
  }
  Translate* translate = translation.load(std::memory_order_acquire);
  return translate != nullptr ? translate(address, bytes, write) : const_cast<void*>(address);
}

}  // namespace

OnlyMemory::OnlyMemory(std::vector<Range> ranges) : ranges_(std::move(ranges)) {
  if (allowed != nullptr) fail("OnlyMemory inside OnlyMemory: give one the ranges of both");
  allowed = &ranges_;
}

OnlyMemory::~OnlyMemory() { allowed = nullptr; }

void set_translation(Translate* translate) {
  translation.store(translate, std::memory_order_release);
}

}  // namespace slimccl::twin

namespace slimccl::quant::cuda {

const void* readable(const void* address, uint32_t bytes) {
  return twin::checked(address, bytes, false);
}

void* writable(void* address, uint32_t bytes) { return twin::checked(address, bytes, true); }

}  // namespace slimccl::quant::cuda
