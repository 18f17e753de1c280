#include "runtime/staging/arena.h"

#include <algorithm>
#include <atomic>

#include "base/bytes.h"
#include "base/log.h"
#include "device/cuda/memory.h"

namespace slimccl::runtime {

using namespace device;

namespace {

constexpr uint64_t kWordBytes = 64;  // the word has a cache line of its own

}  // namespace

Arena::Arena(const Driver& driver, int device, uint64_t bytes)
    : driver_(driver), device_(device), bytes_(bytes) {
  driver.cuDevicePrimaryCtxRetain(&context_, device);  // for the life of the process, as the arena
  const CurrentContext current(driver, context_);
  word_ = reinterpret_cast<uint32_t*>(pin(kWordBytes + bytes));
  word_[0] = word_[1] = 0;
  memory_ = reinterpret_cast<std::byte*>(word_) + kWordBytes;
  driver.cuEventCreate(&end_, CU_EVENT_DISABLE_TIMING);
  driver.cuEventCreate(&joint_, CU_EVENT_DISABLE_TIMING);
}

std::byte* Arena::pin(uint64_t bytes) const {
  void* memory = nullptr;
  driver_.cuMemHostAlloc(&memory, bytes, kMemHostAllocPortable);
  return static_cast<std::byte*>(memory);
}

std::byte* Arena::messages(uint64_t bytes, bool slots_used) {
  if (!slots_used && bytes <= bytes_) return memory_;
  if (bytes <= more_bytes_) return more_;
  constexpr uint64_t kStep = uint64_t{1} << 20;
  const uint64_t wanted = round_up(std::max(bytes, 2 * more_bytes_), kStep);
  const CurrentContext current(driver_, context_);
  more_ = pin(wanted);
  if (more_bytes_ == 0) {
    log::notice("device ", device_, ": a group's messages of ", bytes, " bytes need more than the ",
                bytes_ >> 20, " MiB of pinned memory that SLIMCCL_STAGING_MB gives; pinned ",
                wanted >> 20, " MiB more");
  }
  more_bytes_ = wanted;
  return more_;
}

Arena::Release Arena::next_release() {
  const uint32_t number = ++last_number_;
  const auto release = [word = word_, number] {
    std::atomic_ref<uint32_t>(*word).store(number, std::memory_order_release);
  };
  return {std::make_shared<Completion>(1, release), number};
}

void Arena::wait_for_release(CUstream stream, uint32_t number) const {
  driver_.cuStreamWaitValue32(stream, address_of(word_), number, CU_STREAM_WAIT_VALUE_GEQ);
}

void Arena::wait_for_last(CUstream stream) const { driver_.cuStreamWaitEvent(stream, end_, 0); }

void Arena::mark_end(CUstream stream) { driver_.cuEventRecord(end_, stream); }

void Arena::join(CUstream later, CUstream earlier) const {
  driver_.cuEventRecord(joint_, earlier);
  driver_.cuStreamWaitEvent(later, joint_, 0);
}

bool Arena::idle() const { return !spoilt_ && driver_.cuEventQuery.result(end_) == CUDA_SUCCESS; }

std::unique_ptr<Arena> ArenaPool::take(int device, uint64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    const auto fits = [&](const std::unique_ptr<Arena>& each) {
      if (each->device() != device || each->bytes() != bytes) return false;
      const CurrentContext current(driver_, each->context());
      return each->idle();
    };
    const auto found = std::ranges::find_if(free_.rbegin(), free_.rend(), fits);
    if (found != free_.rend()) {
      auto arena = std::move(*found);
      free_.erase(std::next(found).base());
      return arena;
    }
  }
  return std::make_unique<Arena>(driver_, device, bytes);
}

ArenaPool::Turn& ArenaPool::turn(const Arena& arena) {
  const std::lock_guard lock(mutex_);
  Turn& turn = turns_[arena.device()];
  if (turn.last == nullptr) {
    const CurrentContext current(driver_, arena.context());
    driver_.cuEventCreate(&turn.last, CU_EVENT_DISABLE_TIMING);
  }
  return turn;
}

namespace {

void grant(const Arena::Ticket& ticket) {
  std::atomic_ref<uint32_t>(*ticket.word).store(ticket.number, std::memory_order_release);
}

}  // namespace

void ArenaPool::Turn::arrive(const Arena::Ticket& ticket) {
  const std::lock_guard lock(mutex);
  arrived.push_back(ticket);
  if (arrived.size() == 1) grant(ticket);
}

void ArenaPool::Turn::leave() {
  const std::lock_guard lock(mutex);
  arrived.pop_front();
  if (!arrived.empty()) grant(arrived.front());
}

void ArenaPool::give(std::unique_ptr<Arena> arena) {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(arena));
}

}  // namespace slimccl::runtime
