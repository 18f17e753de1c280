#include "core/scalars.h"

#include "base/error.h"
#include "quant/reduce.h"

namespace slimccl::overlay {

void Scalars::add(ncclRedOp_t op, const void* scalar, ncclDataType_t type,
                  ncclScalarResidence_t residence) {
  if (!quant::is_float(type)) return;  // never compressed
  Known known{type, {}};
  if (residence == ncclScalarDevice) {
    known.scale.device = scalar;
  } else {
    known.scale.value = quant::read_scalar(scalar, type).f32;
  }
  const std::lock_guard lock(mutex_);
  known_[op] = known;
}

void Scalars::remove(ncclRedOp_t op) noexcept {
  const std::lock_guard lock(mutex_);
  known_.erase(op);
}

void Scalars::clear() noexcept {
  const std::lock_guard lock(mutex_);
  known_.clear();
}

PreMulScale Scalars::scale_of(ncclRedOp_t op, ncclDataType_t type) const {
  const std::lock_guard lock(mutex_);
  const auto found = known_.find(op);
  check(found != known_.end(), ncclInvalidArgument, "operation ", static_cast<int>(op),
        " is no built-in one (0 to 4), and was not made by ncclRedOpCreatePreMulSum for this "
        "communicator, or was destroyed before");
  check(found->second.type == type, ncclInvalidArgument, "operation ", static_cast<int>(op),
        " was made for ", quant::type_name(found->second.type), ", the call is for ",
        quant::type_name(type));
  return found->second.scale;
}

}  // namespace slimccl::overlay
