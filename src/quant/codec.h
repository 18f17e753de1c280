// What a run of elements looks like in memory or on the wire: an Encoding is a tensor type or a
// codec's message. Layouts, bounds and arithmetic: docs/formats/. All functions here are pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "quant/form.h"
#include "quant/layout.h"
#include "slimccl/nccl.h"

namespace slimccl::quant {

// kTensor: plain elements of the tensor's own type. kFp32: plain fp32 (partial sums). The rest are
// messages.
enum class Codec : uint8_t { kTensor, kFp32, kBf16, kQ8, kQ4s };

inline constexpr Codec kAllCodecs[] = {Codec::kTensor, Codec::kFp32, Codec::kBf16, Codec::kQ8,
                                       Codec::kQ4s};

[[nodiscard]] std::string_view name(Codec codec);  // "tensor", "fp32", "bf16", "q8", "q4s"
[[nodiscard]] Codec codec_from_name(std::string_view name);  // throws Error naming the known ones
[[nodiscard]] bool is_lossless(Codec codec, ncclDataType_t type);

// `type` matters for kTensor only, and is then fp32, bf16 or fp16.
[[nodiscard]] Form form_of(Codec codec, ncclDataType_t type);

[[nodiscard]] uint64_t type_bytes(
    ncclDataType_t type);  // bytes of one element; throws for an unknown type
[[nodiscard]] std::string_view type_name(ncclDataType_t type);
[[nodiscard]] bool is_float(
    ncclDataType_t type);  // fp32, bf16, fp16: the types that fold() reads and writes

// Bytes of `elems` elements under `codec`; `type` matters for kTensor only. 0 elements are 0 bytes.
[[nodiscard]] uint64_t encoded_bytes(Codec codec, ncclDataType_t type, uint64_t elems);

}  // namespace slimccl::quant
