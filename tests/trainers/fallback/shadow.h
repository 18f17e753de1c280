// Where the bytes of emulated device memory really are. The host cannot read a device address of
// the emulated CUDA; the emulation itself, and these operators as a part of it, reach the bytes at
// a constant distance.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

namespace slimccl::fallback {

// Asks the emulation that this process has loaded; false if it is NVIDIA's runtime, or none.
[[nodiscard]] bool find_shadow();

// The first byte of a CUDA tensor with elements. Valid as long as the tensor's storage.
[[nodiscard]] std::byte* shadow_of(const at::Tensor& tensor);

}  // namespace slimccl::fallback
