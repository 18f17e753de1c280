// The one function of a kernel row, compiled once per instruction set from kernels_row.cc: see
// isa.h.
#pragma once

#include <cstdint>

#include "quant/isa.h"
#include "quant/kernels.h"

namespace slimccl::quant {

// Kernels::fold without the checks, for count >= 1 sources and the default floating-point mode.
using RowFold = void(const Source* sources, uint64_t count, const Sink& sink, ncclDataType_t type,
                     uint64_t elems);

inline namespace SLIMCCL_ISA {
RowFold fold_row;
}

}  // namespace slimccl::quant
