#include "runtime/router.h"

#include "base/error.h"

namespace slimccl::runtime {

void Router::add(std::unique_ptr<transport::Transport> transport, const std::vector<int>& peers) {
  for (const int peer : peers) via_.at(static_cast<size_t>(peer)) = transports_.size();
  transports_.push_back(std::move(transport));
}

size_t Router::route(int peer) const {
  const size_t transport = via_.at(static_cast<size_t>(peer));
  ensure(transport != kNone, "no transport reaches rank ", peer);
  return transport;
}

Router::Handle Router::send(int peer, uint64_t tag, ConstBytes data) {
  const size_t transport = route(peer);
  return {transport, transports_[transport]->send(peer, tag, data)};
}

Router::Handle Router::recv(int peer, uint64_t tag, Bytes into) {
  const size_t transport = route(peer);
  return {transport, transports_[transport]->recv(peer, tag, into)};
}

bool Router::progress() noexcept {
  bool moved = false;
  for (const auto& transport : transports_) moved |= transport->progress();
  return moved;
}

transport::PeerFailure Router::failure_of(const Handle& handle, int peer) const {
  if (const auto& failure = transports_[handle.transport]->failure()) return *failure;
  return {peer, "a message could not be delivered"};
}

bool Router::arm() noexcept {
  bool idle = true;
  for (const auto& transport : transports_) idle &= transport->arm();
  return idle;
}

void Router::add_wait_fds(std::vector<int>& fds) const {
  for (const auto& transport : transports_) {
    if (transport->wait_fd() >= 0) fds.push_back(transport->wait_fd());
  }
}

bool Router::flushed() noexcept {
  bool all = true;
  for (const auto& transport : transports_) all &= transport->flushed();
  return all;
}

void Router::abort(const std::string& reason) noexcept {
  for (const auto& transport : transports_) transport->abort(reason);
}

}  // namespace slimccl::runtime
