// The compiled CUDA kernels as data: what nvcc made of kernels.cu, for the driver to load. The
// bytes live as long as the library.
#pragma once

#include "base/bytes.h"

namespace slimccl::quant {

[[nodiscard]] ConstBytes fold_fatbin();  // empty when SlimCCL was built without nvcc

}  // namespace slimccl::quant
