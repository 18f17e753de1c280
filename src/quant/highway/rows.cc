#include "quant/rows.h"

namespace slimccl::quant {
std::span<const Kernels> vector_rows() { return {}; }
}  // namespace slimccl::quant
