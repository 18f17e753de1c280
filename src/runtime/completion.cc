#include "runtime/completion.h"

#include "base/error.h"

namespace slimccl::runtime {

void Completion::finish_part(ncclResult_t code, std::string_view text) noexcept {
  const std::lock_guard lock(mutex_);
  if (code != ncclSuccess && code_ == ncclSuccess) {
    code_ = code;
    try {
      text_ = text;
    } catch (const std::exception&) {  // out of memory: the code alone must do
    }
  }
  if (parts_ == 1 && when_done_) when_done_();
  // Under the lock: whoever waits may let go of this object the moment it sees zero.
  --parts_;
  changed_.notify_all();
}

void Completion::wait() const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done(); });
}

ncclResult_t Completion::code() const {
  const std::lock_guard lock(mutex_);
  return code_;
}

std::string Completion::text() const {
  const std::lock_guard lock(mutex_);
  return text_;
}

void Completion::check_success() const {
  const std::lock_guard lock(mutex_);
  check(code_ == ncclSuccess, code_, text_);
}

}  // namespace slimccl::runtime
