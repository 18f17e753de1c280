#include "alias.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>

#include "shadow.h"

namespace slimccl::fallback {
namespace {

size_t bytes_of(const at::Tensor& tensor) {
  return at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), tensor.itemsize());
}

}  // namespace

at::Tensor alias_on_cpu(const at::Tensor& tensor) {
  if (tensor.layout() != at::kStrided) return tensor.cpu();
  const auto options = at::TensorOptions().dtype(tensor.dtype()).device(at::kCPU);
  if (tensor.numel() == 0) return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  at::Tensor alias = at::from_blob(shadow_of(tensor), tensor.sizes(), tensor.strides(), options);
  alias._set_conj(tensor.is_conj());
  alias._set_neg(tensor.is_neg());
  // Type promotion treats a number that Python wrapped in a tensor as weaker than a tensor.
  const bool number = tensor.unsafeGetTensorImpl()->is_wrapped_number();
  if (number) alias.unsafeGetTensorImpl()->set_wrapped_number(true);
  return alias;
}

at::Tensor copy_to_device(const at::Tensor& tensor, c10::Device device) {
  if (!tensor.defined() || !tensor.is_cpu()) return tensor;
  if (tensor.layout() != at::kStrided) return tensor.to(device);
  const auto options = at::TensorOptions().dtype(tensor.dtype()).device(device);
  at::Tensor copy = at::empty_strided(tensor.sizes(), tensor.strides(), options);
  if (tensor.numel() != 0) std::memcpy(shadow_of(copy), tensor.const_data_ptr(), bytes_of(tensor));
  return copy;
}

void take_over(const at::Tensor& tensor, const at::Tensor& alias) {
  if (alias.sizes() != tensor.sizes()) tensor.resize_(alias.sizes());
  if (alias.numel() == 0) return;
  tensor.as_strided_(alias.sizes(), alias.strides());
  std::memcpy(shadow_of(tensor), alias.const_data_ptr(), bytes_of(alias));
}

void wait_for_current_stream(c10::Device device) {
  const c10::impl::VirtualGuardImpl cuda(c10::kCUDA);
  cuda.getStream(device).synchronize();
}

}  // namespace slimccl::fallback
