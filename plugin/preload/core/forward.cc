#include "core/forward.h"

#include "base/error.h"

namespace slimccl::overlay {

ncclResult_t count(Entry& entry, const Call& call, const Buffers& buffers,
                   Outcome& outcome) noexcept {
  const Policy& policy = State::instance().policy;
  ncclResult_t result = ncclSuccess;
  try {
    if (entry.broken.load(std::memory_order_relaxed)) [[unlikely]]
      entry.need_whole();
    outcome.reason = Reason::kProfile;
    if (policy.profile != Profile::kExact) outcome = judge(entry, policy, call, buffers);
  } catch (const Error& error) {
    entry.break_off(error.code(), error.what());
    result = fail_call(error.code(), error.what());
  } catch (const std::exception& error) {  // no memory to judge by
    entry.break_off(ncclSystemError, error.what());
    result = fail_call(ncclSystemError, error.what());
  }
  if (result != ncclSuccess) return result;
  const auto op = static_cast<size_t>(call.op);
  Counts::add(entry.counts.calls[op][static_cast<size_t>(outcome.reason)], 1);
  Counts::add(entry.counts.elems[op], call.count);
  Counts::add(entry.counts.bytes[op], call.count * element_bytes(call.type));
  return ncclSuccess;
}

}  // namespace slimccl::overlay
