// What the environment says about the emulated machine, read once at the first call of the driver.
// The emulated driver lives until the process ends: its threads are never joined, so whatever they
// touch is never destroyed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace slimccl::emulated {

// What runs our kernels: their source twin, which is strict, or host rows, which are fast.
enum class KernelsBy : uint8_t { kTwin, kRows };

struct Settings {
  int devices = 2;                        // SLIMCCL_EMULATED_DEVICES
  int capability = 90;                    // SLIMCCL_EMULATED_CAPABILITY: 80 is sm_80
  int driver_version = 13000;             // SLIMCCL_EMULATED_VERSION: 13000 is CUDA 13.0
  size_t device_bytes = size_t{1} << 30;  // SLIMCCL_EMULATED_MB: memory of each device
  uint32_t seed = 0;                      // SLIMCCL_EMULATED_SEED; random unless given
  int delay_us = 2000;  // SLIMCCL_EMULATED_DELAY_US: the longest delay of a stream's next operation
  int deadline_s = 60;  // SLIMCCL_EMULATED_DEADLINE_S: a longer wait is a deadlock
  KernelsBy kernels = KernelsBy::kTwin;  // SLIMCCL_EMULATED_KERNELS: twin or rows
  // SLIMCCL_EMULATED_FAIL=NAME:N:RESULT: the n-th call of NAME returns RESULT. NAME:N:RESULT:RANK:
  // in the process of this RANK only.
  std::string fail;
  int rank = -1;  // RANK, as launchers set it
};

[[nodiscard]] const Settings& settings();

// The emulated machine's verdict on a broken rule: prints the text and the seed, and aborts. A GPU
// would report some of these late, and others never.
[[noreturn]] void fault(const std::string& text);

}  // namespace slimccl::emulated
