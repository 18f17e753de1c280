// Any operator of torch, called on CUDA tensors, carried out by its CPU kernel.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

namespace slimccl::fallback {

// torch's boxed calling convention: the arguments are the last on the stack, and are replaced by
// the results. Any thread may call it, as it may call the CUDA kernel.
void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack);

}  // namespace slimccl::fallback
