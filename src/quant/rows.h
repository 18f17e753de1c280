// The host rows of the kernel table.
#pragma once

#include <span>

#include "quant/kernels.h"

namespace slimccl::quant {

RowFold scalar_fold;                                   // the reference: every row gives its bits
[[nodiscard]] std::span<const Kernels> vector_rows();  // that this CPU can run, slowest first

}  // namespace slimccl::quant
