#include <cstring>
#include <string>

#include "base/error.h"
#include "core/ending.h"
#include "core/hooks.h"
#include "core/state.h"

namespace slimccl::overlay {
namespace {

const slimccl_overlay kHooks = {
#define SLIMCCL_HOOK(NAME, ARGUMENTS, ...) .NAME = hooks::NAME,
    SLIMCCL_HOOKS(SLIMCCL_HOOK)
#undef SLIMCCL_HOOK
        .GroupStart = hooks::GroupStart,
    .GroupEnd = hooks::GroupEnd,
    .GetLastError = hooks::GetLastError,
    .Pause = hooks::Pause,
    .Resume = hooks::Resume,
    .Step = hooks::Step};

const slimccl_overlay* refuse(const char** why, std::string text) {
  static std::string kept;
  kept = std::move(text);
  if (why != nullptr) *why = kept.c_str();
  return nullptr;
}

}  // namespace
}  // namespace slimccl::overlay

extern "C" __attribute__((visibility("default"))) const slimccl_overlay* slimccl_overlay_open(
    uint32_t abi, const char* version, const char** why) {
  using namespace slimccl;
  try {
    if (abi != SLIMCCL_OVERLAY_ABI || std::strcmp(version, SLIMCCL_VERSION) != 0) {
      return overlay::refuse(
          why, concat("libslimccl-core.so is of version ", SLIMCCL_VERSION, " (interface ",
                      SLIMCCL_OVERLAY_ABI, "), the preloaded file of ", version, " (", abi,
                      "): install both from one build"));
    }
    const overlay::State& state = overlay::State::instance();  // reads the settings
    // A compressed call is several kernels of NCCL's: between communicators their order must be the
    // one of the calls. Threads that call at once have no order, which NCCL then takes for an error
    // unless it is told not to.
    if (state.policy.compresses() &&
        environment_variable("NCCL_LAUNCH_ORDER_IMPLICIT") == nullptr) {
      set_environment_variable("NCCL_LAUNCH_ORDER_IMPLICIT", "1");
      set_environment_variable("NCCL_LAUNCH_RACE_FATAL", "0");
    }
    overlay::watch_for_exit();
    return &overlay::kHooks;
  } catch (const std::exception& error) {
    return overlay::refuse(why, error.what());
  }
}
