// The multipliers of the operations that ncclRedOpCreatePreMulSum made for one communicator.
#pragma once

#include <map>
#include <mutex>

#include "slimccl/nccl.h"

namespace slimccl::overlay {

// One of the two: a number, or where it lies in device memory when the call runs.
struct PreMulScale {
  float value = 1;
  const void* device = nullptr;
};

// Any thread.
class Scalars {
 public:
  // As the real NCCL made `op`; a host's scalar is read at once.
  void add(ncclRedOp_t op, const void* scalar, ncclDataType_t type,
           ncclScalarResidence_t residence);
  void remove(ncclRedOp_t op) noexcept;
  void clear() noexcept;
  // Throws Error if `op` is not among them, or was made for another type.
  [[nodiscard]] PreMulScale scale_of(ncclRedOp_t op, ncclDataType_t type) const;

 private:
  struct Known {
    ncclDataType_t type;
    PreMulScale scale;
  };
  mutable std::mutex mutex_;
  std::map<int, Known> known_;
};

}  // namespace slimccl::overlay
