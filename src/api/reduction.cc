#include "api/reduction.h"

#include <atomic>

#include "base/error.h"
#include "quant/kernels.h"

namespace slimccl::api {
namespace {

// Ids are unique in the process, so that one communicator's is never taken for another's.
std::atomic<int> next_id{ncclNumOps};

float read_scalar(const void* scalar, ncclDataType_t type) {
  float value = 0;
  const quant::Source source{static_cast<const std::byte*>(scalar), quant::Codec::kTensor, 1.0f};
  const quant::Sink sink{reinterpret_cast<std::byte*>(&value), quant::Codec::kFp32, false};
  quant::best_kernels().fold({&source, 1}, sink, type, 1);
  return value;
}

void check_type(ncclDataType_t type) {
  check(quant::is_float(type), ncclInvalidUsage, "reductions of ", quant::type_name(type),
        " are not there yet; float32, bfloat16 and float16 are");
}

}  // namespace

ncclRedOp_t Reductions::create(const void* scalar, ncclDataType_t type,
                               ncclScalarResidence_t residence) {
  check(scalar != nullptr, ncclInvalidArgument, "scalar is null");
  check(residence == ncclScalarDevice || residence == ncclScalarHostImmediate, ncclInvalidArgument,
        "residence ", static_cast<int>(residence),
        " is neither ncclScalarDevice (0) nor ncclScalarHostImmediate (1)");
  check_type(type);
  const bool now = residence == ncclScalarHostImmediate;
  const std::lock_guard lock(mutex_);
  const int id = next_id++;
  operations_[id] = {type, now ? read_scalar(scalar, type) : 0.0f, now ? nullptr : scalar};
  return static_cast<ncclRedOp_t>(id);
}

void Reductions::destroy(ncclRedOp_t op) {
  const std::lock_guard lock(mutex_);
  check(operations_.erase(op) == 1, ncclInvalidArgument, "operation ", static_cast<int>(op),
        " was not made by ncclRedOpCreatePreMulSum for this communicator, or was destroyed before");
}

ScaledSum Reductions::resolve(ncclRedOp_t op, ncclDataType_t type, int ranks) const {
  check_type(type);
  if (op == ncclSum || (op == ncclAvg && ranks == 1)) return {collectives::Scaling::kNone, 1.0f};
  if (op == ncclAvg) return {collectives::Scaling::kUniform, 1.0f / static_cast<float>(ranks)};
  check(static_cast<int>(op) >= ncclNumOps, ncclInvalidUsage, "reduction ", static_cast<int>(op),
        " (prod, max, min or unknown) is not there yet; ncclSum, ncclAvg and PreMulSum are");
  const std::lock_guard lock(mutex_);
  const auto found = operations_.find(op);
  check(found != operations_.end(), ncclInvalidArgument, "operation ", static_cast<int>(op),
        " was not made by ncclRedOpCreatePreMulSum for this communicator, or was destroyed before");
  const PreMulSum& operation = found->second;
  check(operation.type == type, ncclInvalidArgument, "operation ", static_cast<int>(op),
        " was made for ", quant::type_name(operation.type), ", the call is for ",
        quant::type_name(type));
  const float value =
      operation.scalar != nullptr ? read_scalar(operation.scalar, type) : operation.value;
  return {collectives::Scaling::kPerRank, value};
}

}  // namespace slimccl::api
