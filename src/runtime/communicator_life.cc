// The ends of a communicator, and the ways from one to the next.
#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "runtime/communicator.h"
#include "runtime/mixed.h"
#include "runtime/serial.h"

namespace slimccl::runtime {
namespace {

struct SplitWish {
  int32_t color, key;
};

}  // namespace

std::shared_ptr<Completion> Communicator::finalize() {
  check_process();
  auto completion = std::make_shared<Completion>(1);
  submit({{}, {}, {}, completion});
  const std::lock_guard lock(mutex_);
  finalized_ = true;
  return completion;
}

void Communicator::close(const std::function<void(Bootstrap&)>& farewell) {
  Engine& engine = Engine::instance();
  engine.remove(this);
  engine.run([&] {
    farewell(*bootstrap_);
    transfers_.reset();
    executor_.reset();
    router_.reset();
    bootstrap_.reset();
  });
}

void Communicator::destroy() {
  check_process();
  {
    std::unique_lock lock(mutex_);
    check(!closed_, ncclInvalidArgument, "the communicator has been destroyed or aborted already");
    closed_ = true;  // nothing new comes in any more
    changed_.wait(lock, [&] { return unfinished_ == 0; });
    leaving_ = async_error_ == ncclSuccess && !revoked_;
  }
  Engine::instance().wake();
  {
    // A slow peer may not have taken all of it yet. The engine goes on moving everybody meanwhile.
    std::unique_lock lock(mutex_);
    const auto left = [&] { return !leaving_ || async_error_ != ncclSuccess; };
    if (!changed_.wait_for(lock, timeout_, left)) {
      log::warn("rank ", rank_, " leaves although not all it sent has been taken");
    }
  }
  report_savings();
  close([](Bootstrap& bootstrap) { bootstrap.leave(); });
}

void Communicator::abort() {
  check_process();
  bool destroying = false;
  {
    const std::lock_guard lock(mutex_);
    destroying = std::exchange(closed_, true);
  }
  Engine::instance().run([&] {
    if (!router_) return;  // destroy() was faster
    bootstrap_->abort("its process called ncclCommAbort");
    if (async_error_ == ncclSuccess) {
      fail(ncclInvalidUsage, "this communicator was aborted by ncclCommAbort");
    }
  });
  if (!destroying) close([](Bootstrap&) {});
}

void Communicator::revoke(const std::string& why) {
  check_process();
  Engine::instance().run([&] {
    {
      const std::lock_guard lock(mutex_);
      check(!closed_, ncclInvalidArgument, "the communicator has been destroyed or aborted");
      if (std::exchange(revoked_, true)) return;
    }
    fail(ncclInvalidUsage, why);
    const std::lock_guard lock(mutex_);
    draining_ = false;
    async_error_ = ncclSuccess;
    async_text_.clear();
  });
}

// All ranks that take part compute the same number, as often as they meet for the same purpose.
uint64_t Communicator::meeting(uint64_t purpose) {
  const std::lock_guard lock(mutex_);
  check(!closed_, ncclInvalidArgument, "the communicator has been destroyed or aborted");
  return mixed(purpose, ++meetings_[purpose]);
}

void Communicator::check_sound_parent() const {
  check_process();
  check(async_error_ == ncclSuccess, async_error_, async_error_text(),
        "; from here only ncclCommShrink with NCCL_SHRINK_ABORT goes on, or ncclCommRevoke");
}

// Counted whatever comes of it: a rank that fails at once must stay in step with those that wait.
uint64_t Communicator::next_split() {
  const uint64_t number = meeting(kSplitSeed);
  check_sound_parent();
  return number;
}

std::optional<Membership> Communicator::split(uint64_t number, int color, int key,
                                              const std::atomic<bool>* cancel) {
  const auto room = Bootstrap::join(branch_of(agreement_.families.front(), number), ranks(), rank_,
                                    setup_timeout_s_, cancel);
  ByteWriter mine;
  mine.put(SplitWish{color, key});
  const auto table = room->all_gather(mine.finish(), setup_timeout_s_);
  room->leave();
  if (color < 0) return std::nullopt;
  std::vector<std::pair<int, int>> members;  // key, rank here
  for (size_t rank = 0; rank < table.size(); ++rank) {
    const auto wish = ByteReader(table[rank], "a rank's wish to split").template get<SplitWish>();
    if (wish.color == color) members.emplace_back(wish.key, static_cast<int>(rank));
  }
  std::ranges::sort(members);
  const auto place = std::ranges::find(members, rank_, &std::pair<int, int>::second);
  const auto& family = agreement_.families[static_cast<size_t>(members.front().second)];
  return Membership{branch_of(family, mixed(number, static_cast<uint64_t>(color) + 1)),
                    static_cast<int>(members.size()), static_cast<int>(place - members.begin())};
}

Membership Communicator::shrink(std::span<const int> excluded, bool abort) {
  std::vector<int> survivors(static_cast<size_t>(ranks()));
  std::iota(survivors.begin(), survivors.end(), 0);
  for (const int rank : excluded) {
    check(rank >= 0 && rank < ranks(), ncclInvalidArgument, "excludeRanksList has rank ", rank,
          "; ranks are 0 to ", ranks() - 1);
    check(rank != rank_, ncclInvalidArgument, "excludeRanksList has rank ", rank,
          ", which is this one: excluded ranks do not call ncclCommShrink");
    std::erase(survivors, rank);
  }
  uint64_t purpose = kShrinkSeed;
  for (const int rank : survivors) purpose = mixed(purpose, static_cast<uint64_t>(rank));
  const uint64_t number = meeting(purpose);  // counted as splits are
  if (abort) {
    revoke("this communicator's operations were ended by ncclCommShrink");
  } else {
    check_sound_parent();
  }
  const auto& family = agreement_.families[static_cast<size_t>(survivors.front())];
  return {branch_of(family, number), static_cast<int>(survivors.size()),
          static_cast<int>(std::ranges::find(survivors, rank_) - survivors.begin())};
}

}  // namespace slimccl::runtime
