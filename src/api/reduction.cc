#include "api/reduction.h"

#include <atomic>

#include "base/error.h"

namespace slimccl::api {
namespace {

using collectives::Reduction;
using collectives::Scaling;
using runtime::HowReduced;

// Ids are unique in the process, so that one communicator's is never taken for another's.
std::atomic<int> next_id{ncclNumOps};

bool is_integer(ncclDataType_t type) { return type <= ncclUint64; }

}  // namespace

ncclRedOp_t Reductions::create(const void* scalar, ncclDataType_t type,
                               ncclScalarResidence_t residence) {
  const auto op = static_cast<ncclRedOp_t>(next_id++);
  add(op, scalar, type, residence);
  return op;
}

void Reductions::add(ncclRedOp_t op, const void* scalar, ncclDataType_t type,
                     ncclScalarResidence_t residence) {
  check(scalar != nullptr, ncclInvalidArgument, "scalar is null");
  check(residence == ncclScalarDevice || residence == ncclScalarHostImmediate, ncclInvalidArgument,
        "residence ", static_cast<int>(residence),
        " is neither ncclScalarDevice (0) nor ncclScalarHostImmediate (1)");
  (void)quant::type_bytes(type);  // throws for what is no type
  const bool now = residence == ncclScalarHostImmediate;
  const PreMulSum operation{type, now ? quant::read_scalar(scalar, type) : quant::Scalar{},
                            now ? nullptr : scalar};
  const std::lock_guard lock(mutex_);
  operations_[op] = operation;
}

void Reductions::clear() noexcept {
  const std::lock_guard lock(mutex_);
  operations_.clear();
}

void Reductions::destroy(ncclRedOp_t op) {
  const std::lock_guard lock(mutex_);
  check(operations_.erase(op) == 1, ncclInvalidArgument, "operation ", static_cast<int>(op),
        " was not made by ncclRedOpCreatePreMulSum for this communicator, or was destroyed before");
}

HowReduced Reductions::pre_mul_sum(ncclRedOp_t op, ncclDataType_t type) const {
  const std::lock_guard lock(mutex_);
  const auto found = operations_.find(op);
  check(found != operations_.end(), ncclInvalidArgument, "operation ", static_cast<int>(op),
        " is no built-in one (0 to 4), and was not made by ncclRedOpCreatePreMulSum for this "
        "communicator, or was destroyed before");
  const PreMulSum& operation = found->second;
  check(operation.type == type, ncclInvalidArgument, "operation ", static_cast<int>(op),
        " was made for ", quant::type_name(operation.type), ", the call is for ",
        quant::type_name(type));
  return {
      .scaling = Scaling::kPerRank, .scale = operation.value, .device_scalar = operation.scalar};
}

HowReduced Reductions::resolve(ncclRedOp_t op, ncclDataType_t type, int ranks) const {
  (void)quant::type_bytes(type);  // throws for what is no type
  switch (op) {
    case ncclSum:
      return {};
    case ncclProd:
      return {.reduction = Reduction::kProd};
    case ncclMax:
      return {.reduction = Reduction::kMax};
    case ncclMin:
      return {.reduction = Reduction::kMin};
    case ncclAvg:
      if (ranks == 1) return {};
      if (is_integer(type)) return {.divides = true};
      return {.scaling = Scaling::kUniform, .scale = quant::reciprocal(ranks)};
    default:
      return pre_mul_sum(op, type);
  }
}

}  // namespace slimccl::api
