// Memory for messages, which start on multiples of kMessageAlign.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#include "quant/layout.h"

namespace slimccl::testing {

template <class T>
struct MessageAllocator {
  using value_type = T;
  static constexpr std::align_val_t kAlign{quant::kMessageAlign};
  MessageAllocator() = default;
  template <class U>
  explicit MessageAllocator(const MessageAllocator<U>& /*other*/) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kAlign)); }
  void deallocate(T* memory, size_t /*count*/) { ::operator delete(memory, kAlign); }
  bool operator==(const MessageAllocator&) const = default;
};

using MessageBytes = std::vector<std::byte, MessageAllocator<std::byte>>;

}  // namespace slimccl::testing
