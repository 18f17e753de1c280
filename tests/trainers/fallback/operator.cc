#include "operator.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "alias.h"

namespace slimccl::fallback {
namespace {

using Change = std::function<at::Tensor(const at::Tensor&)>;

// The value with every tensor in it changed, whether alone or in a list.
c10::IValue with_tensors(const c10::IValue& value, const Change& change) {
  if (value.isTensor()) return change(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> changed;
    for (const at::Tensor& tensor : value.toTensorVector()) changed.push_back(change(tensor));
    return changed;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> changed;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
      changed.push_back(tensor ? std::optional(change(*tensor)) : tensor);
    }
    return changed;
  }
  return value;
}

// The one CUDA device that the arguments name or lie on, if any.
class DeviceOfCall {
 public:
  DeviceOfCall(const c10::FunctionSchema& schema, c10::ArrayRef<c10::IValue> arguments) {
    for (const c10::IValue& argument : arguments) {
      if (argument.isDevice()) {
        note(argument.toDevice(), schema);
        continue;
      }
      (void)with_tensors(argument, [&](const at::Tensor& tensor) {
        if (tensor.defined()) note(tensor.device(), schema);
        return tensor;
      });
    }
  }
  [[nodiscard]] const std::optional<c10::Device>& device() const { return device_; }

 private:
  void note(c10::Device device, const c10::FunctionSchema& schema) {
    if (!device.is_cuda()) return;
    if (!device.has_index()) device = c10::impl::VirtualGuardImpl(c10::kCUDA).getDevice();
    TORCH_CHECK(!device_ || *device_ == device, schema.name(), ": expected all tensors on ",
                *device_, ", but one is on ", device);
    device_ = device;
  }
  std::optional<c10::Device> device_;
};

// A call's arguments as its CPU kernel takes them, and what to make of its results.
class Translation {
 public:
  Translation(const c10::FunctionSchema& schema, c10::ArrayRef<c10::IValue> arguments)
      : schema_(schema),
        arguments_(arguments.vec()),
        device_(DeviceOfCall(schema, arguments).device()) {
    if (device_) wait_for_current_stream(*device_);
  }

  c10::IValue argument(size_t index) {
    const c10::IValue& value = arguments_[index];
    if (value.isDevice() && value.toDevice().is_cuda()) return c10::Device(c10::kCPU);
    if (value.isGenerator()) return {};  // the CPU's own, seeded alike by torch.manual_seed
    const auto* alias_info = schema_.arguments()[index].alias_info();
    const bool written = alias_info != nullptr && alias_info->isWrite();
    return with_tensors(value, [&](const at::Tensor& tensor) {
      if (!tensor.defined() || !tensor.is_cuda()) return tensor;
      at::Tensor alias = alias_on_cpu(tensor);
      if (written && tensor.numel() == 0) may_have_grown_.emplace_back(tensor, alias);
      return alias;
    });
  }

  void finish() const {
    for (const auto& [tensor, alias] : may_have_grown_) take_over(tensor, alias);
  }

  // What was written in place is the caller's own tensor; the rest moves to the device.
  c10::IValue result(size_t index, const c10::IValue& value) const {
    const auto* of_result = schema_.returns()[index].alias_info();
    if (of_result != nullptr && of_result->isWrite()) {
      for (size_t i = 0; i < arguments_.size(); i++) {
        const auto* of_argument = schema_.arguments()[i].alias_info();
        if (of_argument != nullptr && *of_argument == *of_result) return arguments_[i];
      }
    }
    if (!device_) return value;
    return with_tensors(value,
                        [&](const at::Tensor& tensor) { return copy_to_device(tensor, *device_); });
  }

 private:
  const c10::FunctionSchema& schema_;
  const std::vector<c10::IValue> arguments_;
  const std::optional<c10::Device> device_;
  std::vector<std::pair<at::Tensor, at::Tensor>> may_have_grown_;  // with their aliases
};

}  // namespace

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  const c10::FunctionSchema& schema = op.schema();
  const size_t count = schema.arguments().size();
  const size_t first = stack->size() - count;
  Translation translation(schema, c10::ArrayRef(*stack).slice(first, count));
  for (size_t i = 0; i < count; i++) (*stack)[first + i] = translation.argument(i);
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  translation.finish();
  for (size_t i = 0; i < schema.returns().size(); i++) {
    (*stack)[first + i] = translation.result(i, (*stack)[first + i]);
  }
}

}  // namespace slimccl::fallback
