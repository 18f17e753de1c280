// Reductions: NCCL's built-in ones, and a communicator's own "multiply by my scalar, then sum".
#pragma once

#include <map>
#include <mutex>

#include "runtime/work.h"
#include "slimccl/nccl.h"

namespace slimccl::api {

// The PreMulSum operations of one communicator. Any thread.
class Reductions {
 public:
  // `scalar` has type `type`. Host scalars are read now, "device" ones (host memory too, here) when
  // a call runs.
  [[nodiscard]] ncclRedOp_t create(const void* scalar, ncclDataType_t type,
                                   ncclScalarResidence_t residence);
  // The same for an operation that another library has made, and named.
  void add(ncclRedOp_t op, const void* scalar, ncclDataType_t type,
           ncclScalarResidence_t residence);
  void destroy(ncclRedOp_t op);
  void clear() noexcept;
  // Throws Error for an operation that is unknown, not of this communicator, or of another type.
  // What is returned does not need the operation any more.
  [[nodiscard]] runtime::HowReduced resolve(ncclRedOp_t op, ncclDataType_t type, int ranks) const;

 private:
  struct PreMulSum {
    ncclDataType_t type;
    quant::Scalar value;
    const void* scalar;  // where to read it at each call; null: `value` holds
  };

  [[nodiscard]] runtime::HowReduced pre_mul_sum(ncclRedOp_t op, ncclDataType_t type) const;

  mutable std::mutex mutex_;
  std::map<int, PreMulSum> operations_;
};

}  // namespace slimccl::api
