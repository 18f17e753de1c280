// The fold of kernels.h, one superblock after the other. Compiled once per target, see
// vectors-inl.h.
//
// The codecs know whole superblocks only: of the last, partial one, sources are first copied to a
// padded stage, and the sink is written to a stage of which the used part is copied out.
#if defined(SLIMCCL_QUANT_FOLD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLIMCCL_QUANT_FOLD_INL_H_
#undef SLIMCCL_QUANT_FOLD_INL_H_
#else
#define SLIMCCL_QUANT_FOLD_INL_H_
#endif

#include <cstring>

#include "hwy/cache_control.h"
#include "quant/highway/q4s-inl.h"
#include "quant/highway/q8-inl.h"
#include "quant/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace slimccl::quant::HWY_NAMESPACE {

// At most one superblock of a run of `total` elements, which starts at element `first`.
struct Part {
  uint64_t total, first, elems;
  [[nodiscard]] bool whole() const { return elems == kSuperblock; }
};

// A superblock in memory: plain elements, or the record of a message (and its factor).
struct Block {
  Form form;
  std::byte* data;
  std::byte* factor;
};

struct Stage {
  alignas(64) std::byte data[kSuperblock * sizeof(float)];
  static_assert(sizeof(data) >= Q8::kRecordBytes && sizeof(data) >= Q4s::kRecordBytes);
};

inline Block block_of(Form form, std::byte* run, const Part& part) {
  const uint64_t index = part.first / kSuperblock;
  if (form == Form::kQ8) return {form, run + index * Q8::kRecordBytes, nullptr};
  if (form == Form::kQ4s) {
    std::byte* records = run + Q4s::head_bytes(part.total);
    return {form, records + index * Q4s::kRecordBytes, run + index * sizeof(float)};
  }
  return {form, run + part.first * plain_bytes(form), nullptr};
}

inline uint64_t used_bytes(Form form, uint64_t elems) {
  if (form == Form::kQ8) return Q8::record_bytes(elems);
  if (form == Form::kQ4s) return Q4s::record_bytes(elems);
  return elems * plain_bytes(form);
}

// `block` as a whole superblock: zero bytes (whatever they decode to) behind a part of one.
inline Block padded(Block block, const Part& part, Stage& stage) {
  if (part.whole()) return block;
  const uint64_t used = used_bytes(block.form, part.elems);
  std::memcpy(stage.data, block.data, used);
  std::memset(stage.data + used, 0, sizeof(stage.data) - used);
  return {block.form, stage.data, block.factor};
}

template <class Land>
HWY_INLINE void decode_products(const Block& block, const Land& land) {
  if (block.form == Form::kQ8) {
    alignas(64) uint16_t scales[Q8::kBlocks];
    hwy::CopyBytes<Q8::kScaleBytes>(block.data, scales);
    return decode_q8_products(scales, block.data, land);
  }
  float factor;
  hwy::CopyBytes<sizeof(factor)>(block.factor, &factor);
  decode_q4s_products(factor, block.data, land);
}

inline bool may_overflow(const Block& block) {
  if (block.form == Form::kQ8) {
    return q8_may_overflow(reinterpret_cast<const uint16_t*>(block.data));
  }
  float factor;
  hwy::CopyBytes<sizeof(factor)>(block.factor, &factor);
  return q4s_may_overflow(factor);
}

// Messages of such scales are rare, so they may be slow: their products are clamped on a stage.
template <class Land>
HWY_NOINLINE void decode_clamped(const Block& block, const Land& land) {
  Stage stage;
  auto* products = reinterpret_cast<float*>(stage.data);
  decode_products(block, IntoSum<Entry::kAssign>{products, 1});
  for (size_t i = 0; i < kSuperblock; i += kLanes) {
    hn::Store(clamp_to_finite(hn::Load(Floats(), products + i)), Floats(), products + i);
  }
  decode_plain<Form::kFp32>(products, land);
}

template <class Land>
HWY_INLINE void decode(const Block& block, const Land& land) {
  switch (block.form) {
    case Form::kFp32:
      return decode_plain<Form::kFp32>(block.data, land);
    case Form::kBf16:
      return decode_plain<Form::kBf16>(block.data, land);
    case Form::kFp16:
      return decode_plain<Form::kFp16>(block.data, land);
    case Form::kQ8:
    case Form::kQ4s:
      return may_overflow(block) ? decode_clamped(block, land)
                                 : decode_products(block, land.clean());
  }
}

// From plain elements to a message.
inline void encode(const Block& from, const Block& to) {
  const bool q8 = to.form == Form::kQ8;
  switch (from.form) {
    case Form::kFp32:
      return q8 ? encode_q8<Form::kFp32>(from.data, to.data)
                : encode_q4s<Form::kFp32>(from.data, to.factor, to.data);
    case Form::kBf16:
      return q8 ? encode_q8<Form::kBf16>(from.data, to.data)
                : encode_q4s<Form::kBf16>(from.data, to.factor, to.data);
    default:
      return q8 ? encode_q8<Form::kFp16>(from.data, to.data)
                : encode_q4s<Form::kFp16>(from.data, to.factor, to.data);
  }
}

// Past the caches; `bytes` and both addresses are multiples of 64.
inline void stream_bytes(const std::byte* from, std::byte* into, uint64_t bytes) {
  const auto* source = reinterpret_cast<const float*>(from);
  auto* sink = reinterpret_cast<float*>(into);
  for (uint64_t i = 0; i < bytes / sizeof(float); i += kLanes) {
    hn::Stream(hn::Load(Floats(), source + i), Floats(), sink + i);
  }
}

struct Call {
  const Source* sources;
  uint64_t count;
  const Sink& sink;
  ncclDataType_t type;

  [[nodiscard]] Block source(uint64_t k, const Part& part) const {
    return block_of(form_of(sources[k].codec, type), const_cast<std::byte*>(sources[k].data), part);
  }
};

// Whether the first two sources of a whole superblock were plain ones of one form: then `into` is
// their sum.
inline bool sum_first_two(const Call& call, const Part& part, float* into) {
  const Block a = call.source(0, part), b = call.source(1, part);
  if (!part.whole() || a.form != b.form) return false;
  const float scale_a = call.sources[0].scale, scale_b = call.sources[1].scale;
  switch (a.form) {
    case Form::kFp32:
      sum_plain<Form::kFp32>(a.data, scale_a, b.data, scale_b, into);
      return true;
    case Form::kBf16:
      sum_plain<Form::kBf16>(a.data, scale_a, b.data, scale_b, into);
      return true;
    case Form::kFp16:
      sum_plain<Form::kFp16>(a.data, scale_a, b.data, scale_b, into);
      return true;
    default:
      return false;
  }
}

// The first `count` sources of a superblock, folded into `sum`.
inline Block sum_of(const Call& call, uint64_t count, const Part& part, Stage& sum) {
  Stage stage;
  auto* into = reinterpret_cast<float*>(sum.data);
  const bool two = count >= 2 && sum_first_two(call, part, into);
  for (uint64_t k = two ? 2 : 0; k < count; ++k) {
    const Block from = padded(call.source(k, part), part, stage);
    const float scale = call.sources[k].scale;
    with_sum(into, entry_of(k == 0, scale), scale,
             [&](const auto& land) HWY_ATTR { decode(from, land); });
  }
  // What padding decodes to must not reach the scales of a message.
  std::memset(into + part.elems, 0, (kSuperblock - part.elems) * sizeof(float));
  return {Form::kFp32, sum.data, nullptr};
}

inline void fold_to_plain(const Call& call, const Part& part, const Block& to) {
  Stage sum, source, staged;
  const uint64_t last = call.count - 1;
  // The last source goes straight to the sink, unless it needs more than adding.
  const bool saturates = call.sink.saturate && to.form != Form::kFp32;
  const bool direct = call.sources[last].scale == 1.0f && !(last > 0 && saturates);
  const uint64_t before = direct ? last : call.count;
  Block from{Form::kFp32, sum.data, nullptr};
  if (before > 0) sum_of(call, before, part, sum);
  if (direct) from = padded(call.source(last, part), part, source);
  const PlainSink sink{to.form,
                       call.sink.saturate,
                       call.sink.streaming && part.whole(),
                       part.whole() ? to.data : staged.data,
                       direct && last > 0,
                       reinterpret_cast<const float*>(sum.data)};
  with_plain(sink, [&](const auto& land) HWY_ATTR { decode(from, land); });
  if (!part.whole()) std::memcpy(to.data, staged.data, used_bytes(to.form, part.elems));
}

inline void fold_to_message(const Call& call, const Part& part, const Block& to) {
  Stage sum, staged;
  const bool direct = call.count == 1 && call.sources[0].scale == 1.0f;
  const Block first = call.source(0, part);
  const Block from = direct && is_plain(first.form) ? padded(first, part, sum)
                                                    : sum_of(call, call.count, part, sum);
  if (part.whole() && !call.sink.streaming) return encode(from, to);
  encode(from, {to.form, staged.data, to.factor});
  const uint64_t used = used_bytes(to.form, part.elems);
  part.whole() ? stream_bytes(staged.data, to.data, used)
               : static_cast<void>(std::memcpy(to.data, staged.data, used));
}

inline void fold_superblock(const Call& call, const Part& part) {
  const Block to = block_of(form_of(call.sink.codec, call.type), call.sink.data, part);
  is_plain(to.form) ? fold_to_plain(call, part, to) : fold_to_message(call, part, to);
}

inline void fold(const Source* sources, uint64_t count, const Sink& sink, ncclDataType_t type,
                 uint64_t elems) {
  const Call call{sources, count, sink, type};
  for (uint64_t first = 0; first < elems; first += kSuperblock) {
    const uint64_t left = elems - first;
    fold_superblock(call, {elems, first, left < kSuperblock ? left : kSuperblock});
  }
  if (sink.streaming) hwy::FlushStream();
}

}  // namespace slimccl::quant::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // include guard
