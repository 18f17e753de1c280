#include "core/forward.h"

#include "base/error.h"

namespace slimccl::overlay {

ncclResult_t count(Entry& entry, const Call& call, const Buffers& buffers,
                   Outcome& outcome) noexcept {
  const Policy& policy = State::instance().policy;
  try {
    entry.need_whole();
    outcome.reason = Reason::kProfile;
    if (policy.profile != Profile::kExact) outcome = judge(entry, policy, call, buffers);
  } catch (const std::exception& error) {
    entry.break_off(code_of(error), error.what());
    return fail_call(code_of(error), error.what());
  }
  const auto op = static_cast<size_t>(call.op);
  Counts::add(entry.counts.calls[op][static_cast<size_t>(outcome.reason)], 1);
  Counts::add(entry.counts.elems[op], call.count);
  Counts::add(entry.counts.bytes[op], call.count * element_bytes(call.type));
  return ncclSuccess;
}

}  // namespace slimccl::overlay
