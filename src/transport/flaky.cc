#include "transport/flaky.h"

#include <algorithm>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "transport/tickets.h"

namespace slimccl::transport {
namespace {

class Flaky final : public Transport {
 public:
  Flaky(std::unique_ptr<Transport> inner, const FlakyOptions& options)
      : inner_(std::move(inner)), options_(options), random_(options.seed) {}
  ~Flaky() override { release_held(UINT64_MAX); }

  const Traits& traits() const noexcept override { return inner_->traits(); }
  Ticket send(int peer, uint64_t tag, ConstBytes data) override {
    return post({.is_send = true, .peer = peer, .tag = tag, .from = data, .into = {}});
  }
  Ticket recv(int peer, uint64_t tag, Bytes into) override {
    return post({.is_send = false, .peer = peer, .tag = tag, .from = {}, .into = into});
  }

  Progress poll(Ticket ticket) noexcept override {
    Operation* operation = operations_.find(ticket);
    if (operation != nullptr && operation->state == Progress::kPending && operation->posted) {
      operation->state = inner_->poll(operation->inner);
    }
    return operations_.poll(ticket);
  }

  bool progress() noexcept override {
    ++now_;
    const bool released = release_held(now_);
    return inner_->progress() || released;
  }

  const std::optional<PeerFailure>& failure() const noexcept override {
    return failure_ ? failure_ : inner_->failure();
  }
  // Held operations need more progress() calls, not events.
  bool arm() noexcept override { return held_.empty() && inner_->arm(); }
  bool flushed() noexcept override { return inner_->flushed(); }
  int wait_fd() const noexcept override { return inner_->wait_fd(); }

  void abort(const std::string& reason) noexcept override {
    aborted_ = true;
    for (Operation* operation : std::exchange(held_, {})) operation->state = Progress::kFailed;
    inner_->abort(reason);
  }

 private:
  struct Operation {
    Progress state = Progress::kPending;
    bool is_send = false;
    int peer = -1;
    uint64_t tag = 0;
    ConstBytes from;
    Bytes into;
    uint64_t due = 0;  // in progress() calls
    bool posted = false;
    Ticket inner = 0;
  };

  Ticket post(Operation operation) {
    // Only the inner transport knows its peers, and an unknown one must throw here and now: the
    // first operation with each is not delayed.
    const bool known = !aborted_ && known_peers_.contains(operation.peer);
    const Ticket ticket = operations_.add(std::move(operation));
    Operation& added = *operations_.find(ticket);
    if (!known) {
      hand_in(added);
      known_peers_.insert(added.peer);
    }
    if (count_++ == options_.fail_operation || added.peer == options_.fail_peer)
      return fail(added, ticket);
    if (known) hold(added);
    return ticket;
  }

  void hold(Operation& operation) {
    operation.due = now_ + random_() % (uint64_t{options_.max_delay} + 1);
    for (const Operation* earlier : held_) {
      const bool same = earlier->is_send == operation.is_send && earlier->peer == operation.peer &&
                        earlier->tag == operation.tag;
      if (same) operation.due = std::max(operation.due, earlier->due);
    }
    if (options_.max_delay == 0) return hand_in(operation);
    held_.push_back(&operation);
  }

  Ticket fail(Operation& operation, Ticket ticket) {
    if (!failure_)
      failure_ =
          PeerFailure{operation.peer, concat("rank ", operation.peer, " failed by injection")};
    abort(failure_->reason);
    operation.state = Progress::kFailed;
    return ticket;
  }

  void hand_in(Operation& operation) {
    operation.inner = operation.is_send
                          ? inner_->send(operation.peer, operation.tag, operation.from)
                          : inner_->recv(operation.peer, operation.tag, operation.into);
    operation.posted = true;
  }

  bool release_held(uint64_t now) noexcept {
    const auto due = std::stable_partition(held_.begin(), held_.end(),
                                           [&](Operation* held) { return held->due > now; });
    const std::vector<Operation*> released(due, held_.end());
    held_.erase(due, held_.end());
    for (Operation* operation : released) {
      try {
        hand_in(*operation);
      } catch (const std::exception& error) {
        operation->state = Progress::kFailed;
        if (!failure_) failure_ = PeerFailure{operation->peer, error.what()};
      }
    }
    return !released.empty();
  }

  const std::unique_ptr<Transport> inner_;
  const FlakyOptions options_;
  std::mt19937_64 random_;
  uint64_t now_ = 0, count_ = 0;
  std::set<int> known_peers_;
  TicketTable<Operation> operations_;
  std::vector<Operation*> held_;  // in the order posted
  std::optional<PeerFailure> failure_;
  bool aborted_ = false;  // nothing is held back any more: it fails at once
};

}  // namespace

std::unique_ptr<Transport> make_flaky(std::unique_ptr<Transport> inner,
                                      const FlakyOptions& options) {
  return std::make_unique<Flaky>(std::move(inner), options);
}

}  // namespace slimccl::transport
