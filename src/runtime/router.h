// All transports of one communicator behind one address: which one reaches which rank, and their
// sleep as one. Owned and used by the engine's thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transport/transport.h"

namespace slimccl::runtime {

class Router {
 public:
  explicit Router(int ranks) : via_(static_cast<size_t>(ranks), kNone) {}

  // Peers reached by this transport; ranks not named by any call cannot be reached.
  void add(std::unique_ptr<transport::Transport> transport, const std::vector<int>& peers);

  // One message under way: which transport has it, and its ticket there.
  struct Handle {
    size_t transport;
    transport::Ticket ticket;
  };
  Handle send(int peer, uint64_t tag, ConstBytes data);
  Handle recv(int peer, uint64_t tag, Bytes into);
  [[nodiscard]] transport::Progress poll(const Handle& handle) noexcept {
    return transports_[handle.transport]->poll(handle.ticket);
  }
  bool progress() noexcept;

  // What the transport of a failed message says of it; a stand-in text if it says nothing.
  [[nodiscard]] transport::PeerFailure failure_of(const Handle& handle, int peer) const;

  [[nodiscard]] bool arm() noexcept;               // as Transport::arm, for all
  void add_wait_fds(std::vector<int>& fds) const;  // -1 entries are left out
  [[nodiscard]] bool flushed() noexcept;           // as Transport::flushed, for all
  void abort(const std::string& reason) noexcept;

 private:
  static constexpr size_t kNone = SIZE_MAX;
  [[nodiscard]] size_t route(int peer) const;

  std::vector<std::unique_ptr<transport::Transport>> transports_;
  std::vector<size_t> via_;
};

}  // namespace slimccl::runtime
