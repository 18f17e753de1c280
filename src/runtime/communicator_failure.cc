// How a communicator notices that it can no longer work, and what it says then.
#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "runtime/communicator.h"

namespace slimccl::runtime {
namespace {

using std::chrono::milliseconds;

// How often the bootstrap's connection is looked at while operations keep the engine busy.
constexpr auto kBootstrapPeriod = milliseconds(2);
constexpr auto kIdleBootstrapPeriod = milliseconds(20);
// How long a transport's bad news waits for the bootstrap's word on who was first to go.
constexpr auto kSuspicion = milliseconds(1000);
// How long the watchdog waits for the others to say what they do.
constexpr auto kAnswers = milliseconds(2000);

}  // namespace

// A failure that began on this rank: nobody else can know of it.
void Communicator::fail_here(ncclResult_t code, const std::string& text) noexcept {
  bootstrap_->report({-1, concat("rank ", rank_, " failed: ", text)});
  fail(code, text);
}

void Communicator::fail(ncclResult_t code, const std::string& text) noexcept {
  // The transports let go of every buffer before a caller is told that it may have them back.
  router_->abort(text);
  executor_->drop();
  transfers_->drop();
  end_all(code, text);
}

void Communicator::suspect(const RankFailure& failure) noexcept {
  if (suspect_) return;
  suspect_ = failure;
  suspect_since_ = Clock::now();
  bootstrap_->report(failure);
}

void Communicator::see_failure(const transport::PeerFailure& failure) {
  if (!failure.misfit) return suspect({failure.rank, failure.reason});
  if (misfit_.empty())
    misfit_ = concat("rank ", failure.rank, " and this rank, ", rank_,
                     ", make calls that do not fit: ", failure.reason);
}

void Communicator::look_at_bootstrap() {
  const auto now = Clock::now();
  const auto period = current_ ? kBootstrapPeriod : kIdleBootstrapPeriod;
  if (!bootstrap_ || now - last_bootstrap_look_ < period) return;
  last_bootstrap_look_ = now;
  auto failure = bootstrap_->check();  // looked at even after a failure: others may ask
  if (async_error_ != ncclSuccess) return;
  {
    const std::lock_guard lock(mutex_);
    if (revoked_) return;
  }
  if (!failure && suspect_ && now - suspect_since_ > kSuspicion) failure = suspect_;
  if (!failure) return;
  fail(ncclRemoteError, failure->rank < 0
                            ? failure->reason
                            : concat("rank ", failure->rank, " is lost: ", failure->reason));
}

void Communicator::look_at_flush() {
  if (!router_->flushed()) return;
  const std::lock_guard lock(mutex_);
  leaving_ = false;
  changed_.notify_all();
}

// What this rank does now, for whoever asks.
std::string Communicator::doing() const {
  if (async_error_ != ncclSuccess) return concat("failed: ", async_error_text());
  if (!current_) {
    const std::lock_guard lock(mutex_);
    return concat(queue_.empty() ? "in no call" : "its next call waits for others on its stream",
                  "; it has made ", calls_begun_, " collective calls");
  }
  std::string text;
  if (running_) {
    const auto& operation = current_->collectives[next_collective_ - 1];
    text = concat(to_text(signature_of(operation.shape, calls_begun_)), ", waiting ",
                  executor_->waiting_for());
  }
  if (!transfers_->idle()) {
    text +=
        concat(text.empty() ? "" : "; and ", "point-to-point, waiting ", transfers_->waiting_for());
  }
  if (text.empty() && next_collective_ < current_->collectives.size())
    return "waiting for its CUDA stream to bring the next piece of a call";
  return text.empty() ? "between two calls" : text;
}

// The watchdog: without progress for so long, or after a message that does not fit, the others are
// asked what they do, and all are told.
void Communicator::look_at_clock() {
  const bool late = current_ && !suspect_ && Clock::now() - last_progress_ >= timeout_;
  if (!late && misfit_.empty()) {
    asked_.reset();
    return;
  }
  if (!asked_) {
    bootstrap_->ask();
    asked_ = Clock::now();
    return;
  }
  const auto answers = bootstrap_->answers();
  const auto come =
      std::ranges::count_if(answers, [](const auto& each) { return each.has_value(); });
  if (come < ranks() - 1 && Clock::now() - *asked_ < kAnswers) return;
  give_up();
}

void Communicator::give_up() {
  std::vector<std::string> texts;
  for (const auto& answer : bootstrap_->answers())
    texts.push_back(answer.value_or("does not answer"));
  texts.resize(static_cast<size_t>(ranks()), "does not answer");
  texts[static_cast<size_t>(rank_)] = doing();
  const std::string text = concat(
      misfit_.empty() ? concat("no progress for ", timeout_.count(), " s (SLIMCCL_TIMEOUT_S)")
                      : misfit_,
      ": ", who_says_what(texts),
      ". All ranks must make the same calls with the same counts and types in the same order; "
      "SLIMCCL_CHECK=1 finds the first that differs");
  bootstrap_->report({-1, concat("rank ", rank_, " gave up: ", text)});
  fail(ncclRemoteError, text);
}

}  // namespace slimccl::runtime
