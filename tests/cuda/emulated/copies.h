// Copies and fills, enqueued in a stream. Each checks at the call what it can, and when the stream
// comes to it that the memory still lives. All return the ticket to wait for.
#pragma once

#include "cuda/emulated/state.h"

namespace slimccl::emulated {

// Pageable memory is read before the call returns, pinned memory when the stream comes to it.
uint64_t copy_to_device(Stream& stream, CUdeviceptr into, const void* from, size_t bytes);
// Into pageable memory: the caller must wait.
uint64_t copy_to_host(Stream& stream, void* into, CUdeviceptr from, size_t bytes);
// On the stream's device.
uint64_t copy_on_device(Stream& stream, CUdeviceptr into, CUdeviceptr from, size_t bytes);
// Between memory of any devices.
uint64_t copy_between_devices(Stream& stream, CUdeviceptr into, CUdeviceptr from, size_t bytes);
// The caller must wait.
uint64_t copy_on_host(Stream& stream, void* into, const void* from, size_t bytes);
uint64_t fill(Stream& stream, CUdeviceptr into, unsigned char value, size_t bytes);

}  // namespace slimccl::emulated
