#include "cuda/emulated/settings.h"

#include <cstdio>
#include <cstdlib>
#include <random>

namespace slimccl::emulated {
namespace {

template <class Number>
void read(const char* variable, Number& value) {
  const char* text = std::getenv(variable);
  if (text != nullptr && *text != 0) value = static_cast<Number>(std::strtoull(text, nullptr, 0));
}

[[noreturn]] void abort_with(const std::string& text, uint32_t seed) {
  std::fprintf(stderr, "emulated CUDA: %s\nemulated CUDA: SLIMCCL_EMULATED_SEED=%u\n", text.c_str(),
               seed);
  std::fflush(stderr);
  std::abort();
}

KernelsBy read_kernels(uint32_t seed) {
  const char* text = std::getenv("SLIMCCL_EMULATED_KERNELS");
  const std::string value = text != nullptr ? text : "";
  if (value.empty() || value == "twin") return KernelsBy::kTwin;
  if (value == "rows") return KernelsBy::kRows;
  abort_with("SLIMCCL_EMULATED_KERNELS=" + value + ": expected twin or rows", seed);
}

Settings read_settings() {
  Settings read_here;
  read("SLIMCCL_EMULATED_DEVICES", read_here.devices);
  read("SLIMCCL_EMULATED_CAPABILITY", read_here.capability);
  read("SLIMCCL_EMULATED_VERSION", read_here.driver_version);
  size_t megabytes = read_here.device_bytes >> 20;
  read("SLIMCCL_EMULATED_MB", megabytes);
  read_here.device_bytes = megabytes << 20;
  read_here.seed = std::random_device()();
  read("SLIMCCL_EMULATED_SEED", read_here.seed);
  read("SLIMCCL_EMULATED_DELAY_US", read_here.delay_us);
  read("SLIMCCL_EMULATED_DEADLINE_S", read_here.deadline_s);
  read("RANK", read_here.rank);
  read_here.kernels = read_kernels(read_here.seed);
  const char* fail = std::getenv("SLIMCCL_EMULATED_FAIL");
  if (fail != nullptr) read_here.fail = fail;
  return read_here;
}

}  // namespace

const Settings& settings() {
  static const Settings& read_once = *new Settings(read_settings());
  return read_once;
}

void fault(const std::string& text) { abort_with(text, settings().seed); }

}  // namespace slimccl::emulated
