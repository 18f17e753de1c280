#include "cuda/emulated/kernel.h"

#include <algorithm>
#include <cstring>

#include "cuda/emulated/memory.h"
#include "cuda/emulated/rows.h"
#include "cuda/emulated/settings.h"
#include "cuda/twin/kernels.h"
#include "cuda/twin/memory.h"

namespace slimccl::emulated {
namespace {

thread_local int running_device = 0;

// Every access of a kernel: to live memory of its own device, or to pinned memory.
void* translate(const void* address, uint32_t bytes, bool write) {
  const auto where = reinterpret_cast<uint64_t>(address);
  std::byte* found = memory().reach(running_device, where, bytes);
  if (found == nullptr) {
    twin::fail(memory().refusal(running_device, where, bytes, write) +
               "; SLIMCCL_EMULATED_SEED=" + std::to_string(settings().seed));
  }
  return found;
}

}  // namespace

size_t twin_parameter_bytes() { return sizeof(quant::FoldBatch); }

void check_twin(const std::string& kernel, const LaunchShape& shape, const void* parameters) {
  const char* why = settings().kernels == KernelsBy::kTwin ? twin::unavailable() : nullptr;
  if (why != nullptr) fault(std::string("no source twin here: ") + why);
  const auto& names = quant::kFoldKernels;
  if (std::find(std::begin(names), std::end(names), kernel) == std::end(names)) {
    fault("kernel " + kernel + " has no source twin");
  }
  const auto& batch = *static_cast<const quant::FoldBatch*>(parameters);
  const LaunchShape wanted{{batch.superblocks, 1, 1}, {quant::kFoldThreads, 1, 1}};
  if (std::memcmp(&shape, &wanted, sizeof(shape)) != 0) {
    fault("kernel " + kernel + " was launched with a grid of " + std::to_string(shape.grid[0]) +
          " blocks of " + std::to_string(shape.block[0]) + " threads, its batch has " +
          std::to_string(batch.superblocks) + " superblocks for blocks of " +
          std::to_string(quant::kFoldThreads));
  }
}

void run_kernel_on(int device, const std::string& kernel, const void* parameters,
                   std::mt19937& random) {
  quant::FoldBatch batch;
  std::memcpy(&batch, parameters, sizeof(batch));
  if (settings().kernels == KernelsBy::kRows) return run_rows_on(device, kernel, batch);
  run_twin_on(device, kernel, batch, random);
}

void run_twin_on(int device, const std::string& kernel, const quant::FoldBatch& batch,
                 std::mt19937& random) {
  running_device = device;
  twin::set_translation(translate);
  const bool backward = random() % 2 == 1;
  twin::run_twin(kernel, batch, backward ? twin::WarpOrder::kBackward : twin::WarpOrder::kForward);
}

}  // namespace slimccl::emulated
