#include "api/arguments.h"

#include <cstdint>

#include "api/cuda.h"
#include "api/stream.h"
#include "base/error.h"
#include "device/cuda/memory.h"
#include "quant/codec.h"

namespace slimccl::api {

size_t check_count(size_t count, const char* name, ncclDataType_t type, int ranks) {
  const uint64_t element = quant::type_bytes(type);
  const uint64_t most = static_cast<uint64_t>(INT64_MAX) / element / static_cast<uint64_t>(ranks);
  check(count <= most, ncclInvalidArgument, name, " = ", count, " elements on ", ranks,
        " ranks is more bytes than there can be");
  return element;
}

void check_buffer(const void* buffer, const char* name, size_t count) {
  check(buffer != nullptr || count == 0, ncclInvalidArgument, name, " is null with ", count,
        " elements to carry");
}

void check_memory(const Comm& comm, const void* buffer, const char* name, cudaStream_t stream) {
  const Cuda* const cuda = known_cuda();
  if (cuda == nullptr || buffer == nullptr) return;
  const int device = device::device_of(cuda->driver, buffer);
  if (device < 0) return;
  check(comm.staging() != nullptr, ncclInvalidArgument, name, " is memory of CUDA device ", device,
        ", and this communicator takes host memory only: a device must be current on all ranks "
        "when they make it");
  const int own = comm.staging()->arena().device();
  check(device == own, ncclInvalidArgument, name, " is memory of CUDA device ", device,
        ", and this communicator is of device ", own);
  check(!is_host_stream(stream), ncclInvalidArgument, name,
        " is CUDA memory, and the stream is of slimcclStreamCreate: use a CUDA stream");
}

void check_rank(int rank, const char* name, int ranks) {
  check(rank >= 0 && rank < ranks, ncclInvalidArgument, name, " is ", rank, "; ranks are 0 to ",
        ranks - 1);
}

}  // namespace slimccl::api
