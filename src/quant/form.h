// What the elements of one source or sink of a fold are: a codec, with the tensor's type resolved.
#pragma once

#include <cstdint>

#include "quant/bits.h"

namespace slimccl::quant {

enum class Form : uint8_t { kFp32, kBf16, kFp16, kQ8, kQ4s };

SLIMCCL_HD constexpr bool is_plain(Form form) { return form <= Form::kFp16; }
SLIMCCL_HD constexpr uint64_t plain_bytes(Form form) { return form == Form::kFp32 ? 4 : 2; }

}  // namespace slimccl::quant
