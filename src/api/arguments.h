// Checks that the calls share. All throw Error naming the argument and its value.
#pragma once

#include <cstddef>

#include "api/registry.h"
#include "slimccl/nccl.h"

namespace slimccl::api {

// `count` elements for each of `ranks` are no more bytes than there can be; returns an element's.
size_t check_count(size_t count, const char* name, ncclDataType_t type, int ranks);
void check_buffer(const void* buffer, const char* name, size_t count);
// The communicator and the stream can work with the buffer's memory: CUDA memory must be of the
// communicator's device, and on a CUDA stream.
void check_memory(const Comm& comm, const void* buffer, const char* name, cudaStream_t stream);
// A root or peer.
void check_rank(int rank, const char* name, int ranks);

}  // namespace slimccl::api
