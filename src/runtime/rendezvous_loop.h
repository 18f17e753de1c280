// The rendezvous thread's poll loop: connections in, sessions behind them. Everything here is that
// thread's alone.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "runtime/rendezvous.h"
#include "runtime/rendezvous_session.h"

namespace slimccl::runtime {

class RendezvousLoop {
 public:
  explicit RendezvousLoop(Rendezvous& owner) : owner_(owner) {}
  // Until the owner stops; then says what is still to be said.
  void run() noexcept;

 private:
  using Clock = wire::Clock;

  struct Connection final : Session::Peer {
    enum class State : uint8_t { kUnknown, kMember, kRefused, kClosed };

    wire::Socket socket;
    std::string address;
    Clock::time_point deadline{};  // until when it may be unknown, or refused and still reading
    State state = State::kUnknown;
    wire::Inbox inbox{wire::kMaxHelloBytes};
    wire::Outbox outbox;
    Session* session = nullptr;
    int rank = -1;

    // At once, for the order among ranks matters: the others hear of a farewell before the one who
    // left hears that it may end, its process being perhaps ours. What does not fit, or an error,
    // is for the end of the pass.
    void send(const wire::Packet& packet) override {
      outbox.push(packet);
      (void)outbox.flush(socket.get());
    }
  };

  void pass(Clock::time_point until);
  [[nodiscard]] Clock::time_point next_deadline(Clock::time_point limit) const;
  void accept_some();
  void make_room();
  void receive(Connection& connection);
  void greet(Connection& connection, const wire::Frame& frame);
  void turn_away(Connection& connection, std::string_view why);
  void close(Connection& connection, int error);
  void flush();
  void expire();
  void sweep();
  [[nodiscard]] bool has_output() const;

  Rendezvous& owner_;
  std::deque<std::unique_ptr<Connection>> connections_;  // oldest first
  std::map<uint64_t, Session> sessions_;
  Clock::time_point accept_again_{};  // out of descriptors: not before then
  int warnings_ = 0;
};

}  // namespace slimccl::runtime
