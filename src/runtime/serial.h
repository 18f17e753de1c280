// Values to bytes and back, for what ranks tell each other while a communicator is made. Numbers
// are little-endian, as they lie in memory; blocks and texts follow their length.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace slimccl::runtime {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian");

template <class T>
concept WireNumber = std::is_trivially_copyable_v<T>;

class ByteWriter {
 public:
  template <WireNumber T>
  ByteWriter& put(const T& value) {
    return put_raw(std::as_bytes(std::span(&value, 1)));
  }
  ByteWriter& put_raw(ConstBytes bytes) {
    const size_t at = bytes_.size();  // insert() makes g++ 12 warn of an overflow that is none
    bytes_.resize(at + bytes.size());
    if (!bytes.empty()) std::memcpy(&bytes_[at], bytes.data(), bytes.size());
    return *this;
  }
  ByteWriter& put_block(ConstBytes bytes) {
    return put(static_cast<uint64_t>(bytes.size())).put_raw(bytes);
  }
  ByteWriter& put_block(std::string_view text) { return put_block(std::as_bytes(std::span(text))); }

  [[nodiscard]] std::vector<std::byte> finish() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class ByteReader {
 public:
  // `what` is read, for errors: "a set-up record". The bytes must outlive the reader.
  ByteReader(ConstBytes bytes, std::string_view what) : rest_(bytes), what_(what) {}

  template <WireNumber T>
  [[nodiscard]] T get() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  // Throws Error if so many bytes are not there.
  [[nodiscard]] ConstBytes take(uint64_t bytes) {
    check(bytes <= rest_.size(), ncclRemoteError, what_, " is cut short: ", rest_.size(),
          " bytes are left where ", bytes, " are needed; do all ranks run the same libslimccl?");
    const ConstBytes taken = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    return taken;
  }
  [[nodiscard]] ConstBytes block() { return take(get<uint64_t>()); }
  [[nodiscard]] std::string text() { return as_text(block()); }
  [[nodiscard]] ConstBytes rest() { return take(rest_.size()); }
  [[nodiscard]] std::string rest_text() { return as_text(rest()); }

 private:
  static std::string as_text(ConstBytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  ConstBytes rest_;
  std::string_view what_;
};

}  // namespace slimccl::runtime
