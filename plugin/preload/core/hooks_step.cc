// What a trainer says between its collective calls: of the process, so of no NCCL.
#include "base/error.h"
#include "base/pause.h"
#include "core/hooks.h"
#include "core/report.h"
#include "core/state.h"

namespace slimccl::overlay::hooks {

ncclResult_t Pause() {
  ++State::instance().paused;
  ++State::instance().pauses;
  return ncclSuccess;
}

ncclResult_t Resume() {
  if (take_back_pause(State::instance().paused)) return ncclSuccess;
  try {
    return fail(ncclInvalidUsage, concat("slimcclResume: ", kNotPaused));
  } catch (const std::exception&) {  // no memory for the text
    return fail(ncclInvalidUsage, "");
  }
}

ncclResult_t Step() {
  // By then training has its communicators: a rule that fits none is told while that still helps.
  constexpr uint64_t kToldAfter = 2;
  State& state = State::instance();
  if (++state.steps == kToldAfter && !state.forked) {
    try {
      warn_of_idle_rules();
    } catch (const std::exception&) {  // no memory for the text
    }
  }
  return ncclSuccess;
}

}  // namespace slimccl::overlay::hooks
