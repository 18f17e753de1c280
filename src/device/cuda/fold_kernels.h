// The five CUDA kernels that fold, loaded by the driver from the bytes that the library carries.
// Loaded once for all devices and contexts of the process; made by whoever made the Driver, which
// must outlive it. Calls from any thread.
#pragma once

#include <array>

#include "base/bytes.h"
#include "device/cuda/driver.h"
#include "quant/cuda/batch.h"

namespace slimccl::device {

class FoldKernels {
 public:
  // Throws Error when the fatbin is empty, is refused by the driver or lacks a kernel.
  FoldKernels(const Driver& driver, ConstBytes fatbin);
  FoldKernels(const FoldKernels&) = delete;
  FoldKernels& operator=(const FoldKernels&) = delete;
  ~FoldKernels();

  // Loads the kernels into the current context. The driver would do so at the first launch, where
  // it may wait for all work of the device; at set-up that harms nobody, and a device that has no
  // code in the fatbin is found in time.
  void prepare() const;

  // Enqueues the batch, all of whose sinks are of form `sink`, on a stream of the current context.
  // `batch` is copied; the memory that it points to must stay until the stream has passed it.
  void launch(CUstream stream, quant::Form sink, const quant::FoldBatch& batch) const;

 private:
  static constexpr size_t kKernels = std::size(quant::kFoldKernels);

  const Driver& driver_;
  CUlibrary library_ = nullptr;
  std::array<CUkernel, kKernels> kernels_{};  // by form
};

}  // namespace slimccl::device
