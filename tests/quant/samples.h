// What the tests of src/quant share: inputs with every special block, and fold() in the shapes that
// tests want.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "quant/half.h"
#include "quant/kernels.h"

namespace slimccl::quant::testing {

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kMax = std::numeric_limits<float>::max();

// Memory of exactly `bytes` bytes that starts `offset` bytes beyond a multiple of 64. Sanitizers
// see an overrun.
class Buffer {
 public:
  explicit Buffer(uint64_t bytes, uint64_t offset = 0)
      : memory_(static_cast<std::byte*>(::operator new (offset + bytes, std::align_val_t{64}))),
        offset_(offset),
        bytes_(bytes) {
    std::memset(memory_.get(), 0xa5, offset + bytes);
  }
  std::byte* data() const { return memory_.get() + offset_; }
  uint64_t bytes() const { return bytes_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data());
  }
  friend bool operator==(const Buffer& a, const Buffer& b) {
    return a.bytes_ == b.bytes_ && std::memcmp(a.data(), b.data(), a.bytes_) == 0;
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  uint64_t offset_, bytes_;
};

inline std::vector<float> noise(uint64_t elems, uint32_t seed, float sigma = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, sigma);
  std::vector<float> values(elems);
  for (float& value : values) value = normal(generator);
  return values;
}

// Noise in which runs of 96 elements, at places that the seed varies, are zero, tiny, huge,
// constant or tied. With `non_finite`, some of them hold infinities and NaN of any payload and
// sign.
inline std::vector<float> specials(uint64_t elems, uint32_t seed, bool non_finite = true) {
  std::vector<float> values = noise(elems, seed, 0.01f);
  constexpr float kFactors[] = {0, -0.0f, 1e-42f, 1e-36f, 3e-27f, 1e5f, 1e35f, 1e-3f};
  std::mt19937 generator(seed);
  for (uint64_t start = 0; start + 96 <= elems; start += 160) {
    const auto kind = generator() % (non_finite ? 14 : 11);
    for (uint64_t i = start; i < start + 96; ++i) {
      if (kind < 8) values[i] *= kFactors[kind];
      if (kind == 8) values[i] = -0.75f;
      if (kind == 9) values[i] = i % 2 == 0 ? 1.5f : -1.5f;
      if (kind == 10) values[i] = i % 3 == 0 ? kMax : -kMax;
    }
    if (kind == 11) values[start + generator() % 96] = kInf;
    if (kind == 12) values[start + generator() % 96] = -kInf;
    if (kind == 13)
      values[start + generator() % 96] =
          float_of(0xff800001 + static_cast<uint32_t>(generator() % 0x7ffffe));
  }
  return values;
}

inline Buffer plain(const std::vector<float>& values, ncclDataType_t type, uint64_t offset = 0) {
  Buffer buffer(values.size() * type_bytes(type), offset);
  for (uint64_t i = 0; i < values.size(); ++i) {
    if (type == ncclFloat32) buffer.as<float>()[i] = values[i];
    if (type == ncclBfloat16) buffer.as<uint16_t>()[i] = float_to_bf16(values[i]);
    if (type == ncclFloat16) buffer.as<uint16_t>()[i] = float_to_fp16(values[i]);
  }
  return buffer;
}

inline Buffer fold(const Kernels& kernels, const std::vector<Source>& sources, Codec to,
                   ncclDataType_t type, uint64_t elems, uint64_t offset = 0,
                   bool saturate = false, bool streaming = false) {
  Buffer sink(encoded_bytes(to, type, elems), offset);
  kernels.fold(sources, {sink.data(), to, saturate, streaming}, type, elems);
  return sink;
}

inline Buffer encode(const Kernels& kernels, const std::vector<float>& values, Codec to) {
  const auto* data = reinterpret_cast<const std::byte*>(values.data());
  return fold(kernels, {{data, Codec::kFp32, 1}}, to, ncclFloat32, values.size());
}

inline std::vector<float> decode(const Kernels& kernels, const Buffer& message, Codec from,
                                 uint64_t elems) {
  const Buffer sink = fold(kernels, {{message.data(), from, 1}}, Codec::kFp32, ncclFloat32, elems);
  return {sink.as<float>(), sink.as<float>() + elems};
}

// There and back on the reference row.
inline std::vector<float> through(Codec codec, const std::vector<float>& values) {
  const Kernels& kernels = all_kernels().front();
  return decode(kernels, encode(kernels, values, codec), codec, values.size());
}

inline uint32_t bits(float value) { return bits_of(value); }

}  // namespace slimccl::quant::testing
