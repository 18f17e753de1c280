// The rendezvous thread's poll loop: connections in, sessions behind them. Everything here is that
// thread's alone.
#pragma once

#include <compare>
#include <deque>
#include <map>
#include <memory>
#include <optional>
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
    // Shared: one that is over makes way for the next of its branch, its connections close later.
    std::shared_ptr<Session> session;
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
  struct Key {
    uint64_t number;                 // of the id or family
    std::optional<uint64_t> branch;  // a plain id has none
    auto operator<=>(const Key&) const = default;
  };
  using Meetings = std::map<Key, std::shared_ptr<Session>>;

  // Has nobody any use for it, now or later?
  [[nodiscard]] bool done_with(const Meetings::value_type& meeting, Clock::time_point now) const;
  [[nodiscard]] bool has_output() const;

  Rendezvous& owner_;
  std::deque<std::unique_ptr<Connection>> connections_;  // oldest first
  Meetings meetings_;
  Clock::time_point accept_again_{};  // out of descriptors: not before then
  int warnings_ = 0;
};

}  // namespace slimccl::runtime
