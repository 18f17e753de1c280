// A fold as the tests of the CUDA kernels want it: inputs of any form with every special block, a
// sink between guard bytes, and the bytes that the host's reference row writes.
#pragma once

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "quant/cuda/pack.h"
#include "quant/samples.h"

namespace slimccl::quant::testing {

// `count` sources of one codec, at equal distances.
struct Group {
  Codec codec;
  uint64_t count = 1;
  float scale = 1;
  uint64_t offset = 0;  // of plain elements, in elements beyond a multiple of 64 bytes
};

inline bool is_message(Codec codec) { return codec == Codec::kQ8 || codec == Codec::kQ4s; }

inline uint64_t unit_bytes(Codec codec, ncclDataType_t type) {
  return is_message(codec) ? 64 : plain_bytes(form_of(codec, type));
}

// Memory with guard bytes around it. `offset` is in bytes, beyond a multiple of 64.
class Guarded {
 public:
  Guarded(uint64_t bytes, uint64_t offset)
      : memory_(kGuard + offset + bytes + kGuard), begin_(kGuard + offset), bytes_(bytes) {}
  std::byte* data() const { return memory_.data() + begin_; }
  uint64_t bytes() const { return bytes_; }
  bool guards_untouched() const {
    for (uint64_t i = 0; i < memory_.bytes(); ++i) {
      const bool inside = i >= begin_ && i < begin_ + bytes_;
      if (!inside && memory_.as<uint8_t>()[i] != kFill) return false;
    }
    return true;
  }
  void fill() const { std::memset(memory_.data(), kFill, memory_.bytes()); }

 private:
  static constexpr uint64_t kGuard = 128;
  static constexpr uint8_t kFill = 0xa5;  // as Buffer fills it
  Buffer memory_;
  uint64_t begin_, bytes_;
};

class TestFold {
 public:
  TestFold(const std::vector<Group>& groups, Codec to, ncclDataType_t type, uint64_t elems,
           uint64_t sink_offset = 0, bool saturate = false)
      : type_(type),
        elems_(elems),
        sink_(encoded_bytes(to, type, elems),
              is_message(to) ? 0 : sink_offset * unit_bytes(to, type)),
        to_(to),
        saturate_(saturate) {
    for (const Group& group : groups) add(group);
  }

  Fold fold() const { return {sources_, {sink_.data(), to_, saturate_}, type_, elems_}; }
  const Guarded& sink() const { return sink_; }
  const std::vector<Source>& sources() const { return sources_; }

  Buffer expected() const {
    return testing::fold(all_kernels().front(), sources_, to_, type_, elems_, 0, saturate_);
  }
  // Null, or what is wrong with the sink.
  const char* complaint(const Buffer& wanted) const {
    if (std::memcmp(sink_.data(), wanted.data(), wanted.bytes()) != 0) return "other bytes";
    return sink_.guards_untouched() ? nullptr : "bytes around the sink";
  }

 private:
  void add(const Group& group) {
    const uint64_t bytes = encoded_bytes(group.codec, type_, elems_);
    const uint64_t unit = unit_bytes(group.codec, type_);
    // One unit apart, so that plain sources of a group have different alignments.
    const uint64_t stride = bytes + unit, offset = is_message(group.codec) ? 0 : group.offset;
    inputs_.emplace_back(stride * group.count, offset * unit);
    for (uint64_t k = 0; k < group.count; ++k) {
      std::byte* data = inputs_.back().data() + k * stride;
      const auto seed = static_cast<uint32_t>(elems_ + 7 * sources_.size());
      // Most superblocks of large inputs with infinities are nothing but NaN: both kinds are
      // needed.
      const std::vector<float> values = specials(elems_, seed, seed % 2 == 0);
      const auto* plain = reinterpret_cast<const std::byte*>(values.data());
      const Source from = {plain, Codec::kFp32, 1};
      all_kernels().front().fold({&from, 1}, {data, group.codec, false}, type_, elems_);
      sources_.push_back({data, group.codec, group.scale});
    }
  }

  ncclDataType_t type_;
  uint64_t elems_;
  Guarded sink_;
  Codec to_;
  bool saturate_;
  std::vector<Buffer> inputs_;
  std::vector<Source> sources_;
};

}  // namespace slimccl::quant::testing
