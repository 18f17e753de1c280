#include "core/entry.h"

#include "base/error.h"

namespace slimccl::overlay {

std::shared_ptr<Compressor> Entry::compressor_now() const {
  const std::lock_guard lock(compressor_mutex_);
  return compressor_;
}

void Entry::set_compressor(std::shared_ptr<Compressor> compressor) {
  // The old one is freed outside of the lock: that may take CUDA a while.
  const std::lock_guard lock(compressor_mutex_);
  compressor_.swap(compressor);
}

void Entry::break_off(ncclResult_t code, const std::string& text) noexcept {
  const std::lock_guard lock(compressor_mutex_);
  if (broken) return;
  try {
    broken_text_ = concat(text, "; abort this communicator");
  } catch (const std::exception&) {  // no memory for the text
  }
  broken_code_ = code;
  broken.store(true, std::memory_order_release);
}

void Entry::throw_broken() const {
  const std::lock_guard lock(compressor_mutex_);
  throw Error(broken_code_, broken_text_);
}

void Entry::reset() {
  comm = nullptr;
  nccl = nullptr;
  standing = Reason::kNotAgreed;
  checks = ended = joining = cancel = broken = false;
  rank = -1;
  number = 0;
  ranks = windows = 0;
  counts.clear();
  reductions.clear();
  judged.fill({});
  evidence.reset();
  name.clear();
  why.clear();
  star.reset();
  records.clear();
  topology.reset();
  families.clear();
  own_family.reset();
  meetings.clear();
  checked = 0;
  set_compressor(nullptr);
}

}  // namespace slimccl::overlay
