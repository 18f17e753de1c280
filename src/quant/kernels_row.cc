#include "quant/kernels_row.h"

#include <string.h>

#include "quant/half.h"
#include "quant/land.h"
#include "quant/q4s.h"
#include "quant/q8.h"

namespace slimccl::quant {
inline namespace SLIMCCL_ISA {
namespace {

enum class Form : uint8_t { kFp32, kBf16, kFp16, kQ8, kQ4s };

Form form_of(Codec codec, ncclDataType_t type) {
  switch (codec) {
    case Codec::kFp32:
      return Form::kFp32;
    case Codec::kBf16:
      return Form::kBf16;
    case Codec::kQ8:
      return Form::kQ8;
    case Codec::kQ4s:
      return Form::kQ4s;
    case Codec::kTensor:
      break;
  }
  return type == ncclFloat32 ? Form::kFp32 : type == ncclBfloat16 ? Form::kBf16 : Form::kFp16;
}

bool is_plain(Form form) { return form <= Form::kFp16; }
uint64_t plain_bytes(Form form) { return form == Form::kFp32 ? 4 : 2; }

// At most one superblock of a run of `total` elements, which starts at element `first`.
struct Part {
  uint64_t total, first, elems;
};

template <class T, float kToFloat(T)>
void decode_plain(const std::byte* data, const Part& part, float* __restrict into,
                  const Landing& landing) {
  const T* __restrict from = reinterpret_cast<const T*>(data) + part.first;
  with_land(landing, [&](auto land) {
    for (uint64_t i = 0; i < part.elems; ++i) land(into[i], kToFloat(from[i]));
  });
}

template <class Format>
void decode_message(const std::byte* message, const Part& part, float* into,
                    const Landing& landing) {
  const uint64_t index = part.first / kSuperblock;
  const std::byte* factor = message + index * sizeof(float);
  const std::byte* record = message + Format::head_bytes(part.total) + index * Format::kRecordBytes;
  if (part.elems == kSuperblock) return Format::decode(factor, record, into, landing);
  alignas(64) std::byte whole[Format::kRecordBytes] = {};
  memcpy(whole, record, Format::record_bytes(part.elems));
  Format::decode(factor, whole, into, landing);
}

float identity(float value) { return value; }

// `into` has room for a whole superblock, whatever the part.
void decode(Form form, const std::byte* data, const Part& part, float* into,
            const Landing& landing) {
  switch (form) {
    case Form::kFp32:
      return decode_plain<float, identity>(data, part, into, landing);
    case Form::kBf16:
      return decode_plain<uint16_t, bf16_to_float>(data, part, into, landing);
    case Form::kFp16:
      return decode_plain<uint16_t, fp16_to_float>(data, part, into, landing);
    case Form::kQ8:
      return decode_message<Q8>(data, part, into, landing);
    case Form::kQ4s:
      return decode_message<Q4s>(data, part, into, landing);
  }
}

// Which NaN a sum yields depends on the order of its operands, which no compiler promises: so there
// is only one.
float canonical(float value) {
  const uint32_t bits = bits_of(value);
  return float_of((bits & kMagnitudeMask) > kInfinityBits ? kNanBits : bits);
}

template <uint32_t kMaxBits>
float saturated(float value) {
  const uint32_t bits = bits_of(value), magnitude = bits & kMagnitudeMask;
  const uint32_t limited = magnitude > kMaxBits ? kMaxBits : magnitude;
  return float_of((magnitude < kInfinityBits ? limited : magnitude) | (bits & ~kMagnitudeMask));
}

template <class T, T kFromFloat(float)>
void store_plain(const float* __restrict from, const Part& part, std::byte* data) {
  T* __restrict into = reinterpret_cast<T*>(data) + part.first;
  for (uint64_t i = 0; i < part.elems; ++i) into[i] = kFromFloat(from[i]);
}

uint16_t saturate_to_bf16(float value) { return float_to_bf16(saturated<kBf16MaxBits>(value)); }
uint16_t saturate_to_fp16(float value) { return float_to_fp16(saturated<kFp16MaxBits>(value)); }

template <class Format>
void encode_message(const float* from, const Part& part, std::byte* message) {
  const uint64_t index = part.first / kSuperblock;
  std::byte* factor = message + index * sizeof(float);
  std::byte* record = message + Format::head_bytes(part.total) + index * Format::kRecordBytes;
  if (part.elems == kSuperblock) return Format::encode(from, factor, record);
  alignas(64) float padded[kSuperblock] = {};
  alignas(64) std::byte whole[Format::kRecordBytes];
  memcpy(padded, from, part.elems * sizeof(float));
  Format::encode(padded, factor, whole);
  memcpy(record, whole, Format::record_bytes(part.elems));
}

void encode(const float* from, const Part& part, Form form, const Sink& sink) {
  const bool saturate = sink.saturate;
  switch (form) {
    case Form::kFp32:
      return store_plain<float, canonical>(from, part, sink.data);
    case Form::kBf16:
      return saturate ? store_plain<uint16_t, saturate_to_bf16>(from, part, sink.data)
                      : store_plain<uint16_t, float_to_bf16>(from, part, sink.data);
    case Form::kFp16:
      return saturate ? store_plain<uint16_t, saturate_to_fp16>(from, part, sink.data)
                      : store_plain<uint16_t, float_to_fp16>(from, part, sink.data);
    case Form::kQ8:
      return encode_message<Q8>(from, part, sink.data);
    case Form::kQ4s:
      return encode_message<Q4s>(from, part, sink.data);
  }
}

// Messages are functions of their elements to the last byte. `factors_bytes` of the head are in
// use.
template <class Format>
void clear_padding(std::byte* message, uint64_t elems, uint64_t factors_bytes) {
  const uint64_t head = Format::head_bytes(elems);
  const uint64_t used =
      head + elems / kSuperblock * Format::kRecordBytes + Format::record_bytes(elems % kSuperblock);
  if (head > 0) memset(message + factors_bytes, 0, head - factors_bytes);
  memset(message + used, 0, (kMessageAlign - used % kMessageAlign) % kMessageAlign);
}

void clear_padding(std::byte* message, Form form, uint64_t elems) {
  const uint64_t factors = (elems + kSuperblock - 1) / kSuperblock;
  if (form == Form::kQ8) clear_padding<Q8>(message, elems, 0);
  if (form == Form::kQ4s) clear_padding<Q4s>(message, elems, factors * sizeof(float));
}

}  // namespace

void fold_row(const Source* sources, uint64_t count, const Sink& sink, ncclDataType_t type,
              uint64_t elems) {
  const Form to = form_of(sink.codec, type), from = form_of(sources[0].codec, type);
  const bool single = count == 1 && sources[0].scale == 1.0f;
  if (single && from == to && is_plain(to)) {
    if (sink.data != sources[0].data) memcpy(sink.data, sources[0].data, elems * plain_bytes(to));
    return;
  }
  alignas(64) float sum[kSuperblock];
  for (uint64_t first = 0; first < elems; first += kSuperblock) {
    const uint64_t left = elems - first;
    const Part part{elems, first, left < kSuperblock ? left : kSuperblock};
    if (single && from == Form::kFp32) {  // read in place
      encode(reinterpret_cast<const float*>(sources[0].data) + first, part, to, sink);
    } else if (single && to == Form::kFp32 && !is_plain(from) && part.elems == kSuperblock) {
      decode(from, sources[0].data, part, reinterpret_cast<float*>(sink.data) + first, {false, 1});
    } else {
      for (uint64_t k = 0; k < count; ++k) {
        decode(form_of(sources[k].codec, type), sources[k].data, part, sum,
               {k > 0, sources[k].scale});
      }
      encode(sum, part, to, sink);
    }
  }
  if (!is_plain(to)) clear_padding(sink.data, to, elems);
}

}  // namespace SLIMCCL_ISA
}  // namespace slimccl::quant
