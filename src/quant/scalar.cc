// The reference row: one element after the other, as docs/formats/ says it.
#include <cstring>

#include "quant/half.h"
#include "quant/q4s.h"
#include "quant/q8.h"
#include "quant/rows.h"

namespace slimccl::quant {
namespace {

// At most one superblock of a run of `total` elements, which starts at element `first`.
struct Part {
  uint64_t total, first, elems;
};

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <class T>
void store(std::byte* into, T value) {
  std::memcpy(into, &value, sizeof(T));
}

float decode_plain(Form form, const std::byte* data, uint64_t i) {
  if (form == Form::kFp32) return load<float>(data + i * 4);
  const auto half = load<uint16_t>(data + i * 2);
  return form == Form::kBf16 ? bf16_to_float(half) : fp16_to_float(half);
}

void encode_plain(Form form, std::byte* data, uint64_t i, float value, bool saturate) {
  if (form == Form::kFp32) return store(data + i * 4, canonical(value));
  const bool bf16 = form == Form::kBf16;
  if (saturate) value = saturated(value, bf16 ? kBf16MaxBits : kFp16MaxBits);
  store(data + i * 2, bf16 ? float_to_bf16(value) : float_to_fp16(value));
}

template <class Format>
std::byte* record_of(std::byte* message, const Part& part) {
  return message + Format::head_bytes(part.total) + part.first / kSuperblock * Format::kRecordBytes;
}

std::byte* factor_of(std::byte* message, const Part& part) {
  return message + part.first / kSuperblock * sizeof(float);
}

void decode_q8(std::byte* message, const Part& part, float* into) {
  const std::byte* record = record_of<Q8>(message, part);
  for (uint64_t i = 0; i < part.elems; ++i) {
    const float scale = Q8::factor_of(load<uint16_t>(record + i / Q8::kBlock * 2));
    const auto code = load<int8_t>(record + Q8::kScaleBytes + i);
    into[i] = clamp_to_finite(static_cast<float>(code) * scale);
  }
}

void decode_q4s(std::byte* message, const Part& part, float* into) {
  const std::byte* record = record_of<Q4s>(message, part);
  const auto factor = load<float>(factor_of(message, part));
  for (uint64_t i = 0; i < part.elems; ++i) {
    const uint64_t block = i / Q4s::kBlock, place = i % Q4s::kBlock, half = Q4s::kBlock / 2;
    const auto both = load<uint8_t>(record + Q4s::kScaleBytes + block * half + place % half);
    const int code = (place < half ? both & 15 : both >> 4) - 8;
    const float scale = canonical(factor * Q4s::e4m3_to_float(load<uint8_t>(record + block)));
    into[i] = clamp_to_finite(static_cast<float>(code) * scale);
  }
}

// Elements beyond the part count as zero; `elems` has room for a whole superblock.
void encode_q8(const float* elems, const Part& part, std::byte* message) {
  std::byte* record = record_of<Q8>(message, part);
  std::memset(record, 0, Q8::record_bytes(part.elems));
  for (uint64_t first = 0; first < part.elems; first += Q8::kBlock) {
    uint32_t absmax = 0;  // on bits, where a NaN is larger than all else instead of unordered
    for (uint64_t i = first; i < first + Q8::kBlock; ++i) {
      const uint32_t magnitude = bits_of(elems[i]) & kMagnitudeMask;
      absmax = absmax > magnitude ? absmax : magnitude;
    }
    const uint16_t scale = Q8::scale_of(absmax);
    const float inverse = Q8::inverse_of(scale);
    store(record + first / Q8::kBlock * 2, scale);
    for (uint64_t i = first; i < first + Q8::kBlock && i < part.elems; ++i) {
      store(record + Q8::kScaleBytes + i, Q8::code_of(elems[i], inverse));
    }
  }
}

void encode_q4s(const float* elems, const Part& part, std::byte* message) {
  constexpr uint64_t kHalf = Q4s::kBlock / 2;
  std::byte* record = record_of<Q4s>(message, part);
  uint32_t keys[Q4s::kBlocks] = {}, largest = 0;
  for (uint64_t i = 0; i < kSuperblock; ++i) {
    uint32_t& key = keys[i / Q4s::kBlock];
    key = key > Q4s::key_of(elems[i]) ? key : Q4s::key_of(elems[i]);
    largest = largest > key ? largest : key;
  }
  const float factor = Q4s::factor_of(largest);
  store(factor_of(message, part), factor);
  std::memset(record, Q4s::kZeroNibbles, Q4s::record_bytes(part.elems));
  std::memset(record, 0, Q4s::kScaleBytes);
  if (!(factor > 0)) return;  // nothing to tell but zeros, or but NaN
  for (uint64_t first = 0; first < part.elems; first += Q4s::kBlock) {
    const uint64_t block = first / Q4s::kBlock;
    const uint8_t scale = Q4s::scale_of(keys[block], 1.0f / factor);
    const float inverse = Q4s::inverse_of(factor, scale);
    store(record + block, scale);
    for (uint64_t j = 0; j < kHalf; ++j) {
      const uint32_t low = Q4s::nibble_of(elems[first + j], inverse);
      const uint32_t high = Q4s::nibble_of(elems[first + j + kHalf], inverse);
      store(record + Q4s::kScaleBytes + block * kHalf + j, static_cast<uint8_t>(low | high << 4));
    }
  }
}

void decode(Form form, const std::byte* data, const Part& part, float* into) {
  auto* message = const_cast<std::byte*>(data);
  if (form == Form::kQ8) return decode_q8(message, part, into);
  if (form == Form::kQ4s) return decode_q4s(message, part, into);
  for (uint64_t i = 0; i < part.elems; ++i) into[i] = decode_plain(form, data, part.first + i);
}

void encode(const float* elems, const Part& part, Form form, const Sink& sink) {
  if (form == Form::kQ8) return encode_q8(elems, part, sink.data);
  if (form == Form::kQ4s) return encode_q4s(elems, part, sink.data);
  for (uint64_t i = 0; i < part.elems; ++i) {
    encode_plain(form, sink.data, part.first + i, elems[i], sink.saturate);
  }
}

}  // namespace

void scalar_fold(const Source* sources, uint64_t count, const Sink& sink, ncclDataType_t type,
                 uint64_t elems) {
  for (uint64_t first = 0; first < elems; first += kSuperblock) {
    const uint64_t left = elems - first;
    const Part part{elems, first, left < kSuperblock ? left : kSuperblock};
    float sum[kSuperblock] = {}, decoded[kSuperblock];
    for (uint64_t k = 0; k < count; ++k) {
      decode(form_of(sources[k].codec, type), sources[k].data, part, decoded);
      for (uint64_t i = 0; i < part.elems; ++i) {
        const float scale = sources[k].scale;
        const float value = scale == 1.0f ? decoded[i] : decoded[i] * scale;
        sum[i] = k == 0 ? value : sum[i] + value;
      }
    }
    encode(sum, part, form_of(sink.codec, type), sink);
  }
}

}  // namespace slimccl::quant
