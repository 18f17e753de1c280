#include "transport/loopback/loopback.h"

#include <unistd.h>

#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "transport/loopback/hub.h"

namespace slimccl::transport {
namespace {

class Loopback final : public Transport {
 public:
  Loopback(std::shared_ptr<LoopbackHub> hub, int rank) : hub_(std::move(hub)), rank_(rank) {
    const std::lock_guard lock(hub_->mutex);
    check(rank >= 0 && rank < hub_->ranks(), ncclInvalidArgument, "rank ", rank, " of ",
          hub_->ranks(), " ranks does not exist");
    LoopbackHub::Rank& self = hub_->at(rank);
    check(self.state == LoopbackHub::State::kAwaited, ncclInvalidUsage, "rank ", rank,
          " was taken before: each rank of a communicator belongs to one thread");
    self.state = LoopbackHub::State::kHere;
  }
  ~Loopback() override { leave(LoopbackHub::State::kGone, ""); }

  const Traits& traits() const noexcept override {
    static constexpr Traits kTraits{"loopback", false};
    return kTraits;
  }

  Ticket send(int peer, uint64_t tag, ConstBytes data) override {
    return post({.is_send = true, .peer = peer, .tag = tag, .from = data, .into = {}});
  }
  Ticket recv(int peer, uint64_t tag, Bytes into) override {
    return post({.is_send = false, .peer = peer, .tag = tag, .from = {}, .into = into});
  }

  Progress poll(Ticket ticket) noexcept override {
    const std::lock_guard lock(hub_->mutex);
    return hub_->at(rank_).operations.poll(ticket);
  }

  bool progress() noexcept override {
    bool moved = false;
    while (hub_->copy_one(rank_)) moved = true;
    const std::lock_guard lock(hub_->mutex);
    LoopbackHub::Rank& self = hub_->at(rank_);
    self.armed = false;
    uint64_t count = 0;
    (void)!::read(self.event.get(), &count, sizeof count);
    moved |= std::exchange(self.news, false);
    if (self.failure && !failure_) failure_ = self.failure;
    return moved;
  }

  // A copy of the hub's, so that it can be handed out by reference.
  const std::optional<PeerFailure>& failure() const noexcept override {
    const std::lock_guard lock(hub_->mutex);
    if (!failure_) failure_ = hub_->at(rank_).failure;
    return failure_;
  }

  bool arm() noexcept override {
    const std::lock_guard lock(hub_->mutex);
    LoopbackHub::Rank& self = hub_->at(rank_);
    self.armed = !self.news && self.ready.empty();
    return self.armed;
  }
  // A send is done when the receiver has it.
  bool flushed() noexcept override { return true; }
  int wait_fd() const noexcept override { return hub_->at(rank_).event.get(); }

  void abort(const std::string& reason) noexcept override {
    leave(LoopbackHub::State::kAborted, reason);
  }

 private:
  Ticket post(LoopbackOperation operation) {
    check(operation.peer >= 0 && operation.peer < hub_->ranks() && operation.peer != rank_,
          ncclInvalidArgument, "rank ", operation.peer, " is no peer of rank ", rank_, " among ",
          hub_->ranks(), " ranks");
    const std::lock_guard lock(hub_->mutex);
    LoopbackHub::Rank& self = hub_->at(rank_);
    const Ticket ticket = self.operations.add(std::move(operation));
    LoopbackOperation& added = *self.operations.find(ticket);
    if (self.state != LoopbackHub::State::kHere) {
      added.state = Progress::kFailed;
    } else if (added.is_send) {
      hub_->post_send(rank_, added);
    } else {
      hub_->post_recv(rank_, added);
    }
    return ticket;
  }

  void leave(LoopbackHub::State how, const std::string& reason) noexcept {
    try {
      hub_->leave(rank_, how, reason);
    } catch (const std::exception& error) {
      log::warn("rank ", rank_, " could not leave its communicator in order: ", error.what());
    }
  }

  const std::shared_ptr<LoopbackHub> hub_;
  const int rank_;
  mutable std::optional<PeerFailure> failure_;
};

}  // namespace

std::shared_ptr<LoopbackHub> make_loopback_hub(int ranks) {
  return std::make_shared<LoopbackHub>(ranks);
}

std::unique_ptr<Transport> make_loopback(std::shared_ptr<LoopbackHub> hub, int rank) {
  return std::make_unique<Loopback>(std::move(hub), rank);
}

}  // namespace slimccl::transport
