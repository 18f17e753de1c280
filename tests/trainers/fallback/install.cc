// Registers CPU kernels in the place of CUDA kernels, for an unmodified CUDA build of torch on
// emulated devices. Loaded by site/slimccl_trainers.py when torch is imported.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/copy_native.h>
#include <torch/library.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "alias.h"
#include "operator.h"
#include "shadow.h"

namespace slimccl::fallback {
namespace {

// torch's own code for CUDA serves these: they allocate, look at metadata, or end in a copy of the
// CUDA runtime. So caching allocator, streams, events and copies stay the real ones.
const std::set<std::string> kTorchsOwn = {
    "aten::_fused_sdp_choice",
    "aten::_local_scalar_dense",
    "aten::_pin_memory",
    "aten::_to_copy",
    "aten::clone",
    "aten::copy_",
    "aten::empty_strided",
    "aten::empty.memory_format",
    "aten::is_pinned",
    "aten::is_set_to",
    "aten::record_stream",
    "aten::resize_",
    "aten::set_",
    "aten::set_.source_Storage",
    "aten::set_.source_Tensor",
    "aten::set_.source_Storage_storage_offset",
};

bool makes_a_view(const c10::FunctionSchema& schema) {
  return std::ranges::any_of(schema.returns(), [](const c10::Argument& result) {
    return result.alias_info() != nullptr && !result.alias_info()->isWrite();
  });
}

bool can_run_on_cpu(const c10::OperatorHandle& op) {
  const std::string name = c10::toString(op.operator_name());
  return op.hasSchema() && op.hasKernelForDispatchKey(c10::DispatchKey::CUDA) &&
         op.hasComputedKernelForDispatchKey(c10::DispatchKey::CPU) && !kTorchsOwn.contains(name) &&
         !name.starts_with("c10d::") && !name.starts_with("symm_mem::") &&
         !makes_a_view(op.schema());
}

bool is_one_memcpy(const at::Tensor& to, const at::Tensor& from) {
  return to.dtype() == from.dtype() && to.sizes() == from.sizes() && to.is_contiguous() &&
         from.is_contiguous() && to.is_conj() == from.is_conj() && to.is_neg() == from.is_neg();
}

// torch copies between two layouts or types on the device with a kernel; all else by the runtime.
at::Tensor& copy(at::Tensor& to, const at::Tensor& from, bool non_blocking) {
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  const bool by_kernel =
      to.is_cuda() && from.is_cuda() && to.numel() != 0 && !is_one_memcpy(to, from);
  if (!by_kernel) return at::native::copy_(to, from, non_blocking);
  wait_for_current_stream(from.device());
  wait_for_current_stream(to.device());
  at::Tensor alias = alias_on_cpu(to);
  alias.copy_(alias_on_cpu(from));
  return to;
}

int install() {
  auto& dispatcher = c10::Dispatcher::singleton();
  // Both live as long as the process: a registration that is destroyed is undone.
  auto* registrations = new std::vector<c10::RegistrationHandleRAII>;
  auto* library =
      new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::CUDA, __FILE__, __LINE__);
  for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findOp(name);
    if (!op || !can_run_on_cpu(*op)) continue;
    registrations->push_back(dispatcher.registerImpl(
        name, c10::DispatchKey::CUDA, c10::KernelFunction::makeFromBoxedFunction<&run_on_cpu>(),
        std::nullopt, nullptr, "CPU kernel on emulated device memory"));
  }
  library->impl("copy_", copy);
  return static_cast<int>(registrations->size());
}

}  // namespace
}  // namespace slimccl::fallback

// How many operators now run on the CPU; 0 if this process has no emulated CUDA. Call it once,
// after `import torch`.
extern "C" __attribute__((visibility("default"))) int slimccl_fallback_install() {
  return slimccl::fallback::find_shadow() ? slimccl::fallback::install() : 0;
}
