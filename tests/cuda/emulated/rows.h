// Runs a launch of a fold kernel with the host rows of src/quant, which give its bits by law, as
// SLIMCCL_EMULATED_KERNELS=rows asks for: as fast as the CPU, and less strict than the source twin.
// Each operand is checked as a whole before anything is read or written.
#pragma once

#include <string>

#include "quant/cuda/batch.h"

namespace slimccl::emulated {

// On a stream's thread. `kernel` is one of quant::kFoldKernels. Faults where an operand is not
// within one live allocation of the device or pinned memory, or not aligned as batch.h says, and
// for a batch whose jobs do not fill it.
void run_rows_on(int device, const std::string& kernel, const quant::FoldBatch& batch);

}  // namespace slimccl::emulated
