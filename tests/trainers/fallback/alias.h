// CPU tensors that stand for CUDA tensors.
#pragma once

#include <ATen/core/Tensor.h>

namespace slimccl::fallback {

// A CPU tensor on the very bytes of a CUDA tensor: what a CPU kernel writes to it, the device has.
// It must not outlive the CUDA tensor. Of a tensor without elements: an empty one that a kernel may
// resize. Of a sparse tensor: a copy.
[[nodiscard]] at::Tensor alias_on_cpu(const at::Tensor& tensor);

// A new CUDA tensor with the values, shape and strides of a CPU tensor; anything else as it is.
[[nodiscard]] at::Tensor copy_to_device(const at::Tensor& tensor, c10::Device device);

// Resizes a CUDA tensor that had no elements to what a CPU kernel has made of its alias, and fills
// it.
void take_over(const at::Tensor& tensor, const at::Tensor& alias);

// Waits for the work of the device's current stream: a CPU kernel runs in the place of a CUDA
// kernel that would be enqueued there.
void wait_for_current_stream(c10::Device device);

}  // namespace slimccl::fallback
