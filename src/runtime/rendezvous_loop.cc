#include "runtime/rendezvous_loop.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace slimccl::runtime {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kUnknownFor{5};
// Our own ranks say hello at once, so those that have waited longest in silence are strangers.
constexpr int kMaxUnknown = 256;
constexpr int kAcceptsPerPass = 64;
constexpr int kMaxWarnings = 20;  // a port scanner shall not fill the log
constexpr seconds kLongest{3600};
constexpr milliseconds kLastWords{500};

std::string how_it_ended(int error) {
  if (error == ENODATA || error == ECONNRESET || error == EPIPE) {
    return "process died (connection closed)";
  }
  return concat("process or its host died or cannot be reached (", std::strerror(error), ")");
}

}  // namespace

void RendezvousLoop::run() noexcept {
  try {
    while (!owner_.stopping_) pass(Clock::now() + kLongest);
    // What ranks of this process said last is still to be read, and told to the others.
    pass(Clock::now());
    const auto end = Clock::now() + kLastWords;
    while (has_output() && Clock::now() < end) pass(end);
  } catch (const std::exception& error) {
    log::warn("the rendezvous at ", owner_.endpoint_.text(), " ends: ", error.what());
  }
}

void RendezvousLoop::pass(Clock::time_point until) {
  const bool listening = Clock::now() >= accept_again_;
  std::vector<pollfd> entries = {{owner_.wake_.get(), POLLIN, 0},
                                 {listening ? owner_.listener_.get() : -1, POLLIN, 0}};
  for (const auto& connection : connections_) {
    const short out = connection->outbox.empty() ? 0 : POLLOUT;
    entries.push_back({connection->socket.get(), static_cast<short>(POLLIN | out), 0});
  }
  const auto wait = std::chrono::ceil<milliseconds>(next_deadline(until) - Clock::now());
  const int wait_ms = static_cast<int>(std::max<int64_t>(0, wait.count()));
  if (poll(entries.data(), entries.size(), wait_ms) > 0) {
    uint64_t ignored;
    if (entries[0].revents != 0) (void)!read(owner_.wake_.get(), &ignored, sizeof ignored);
    for (size_t i = 2; i < entries.size(); ++i) {
      if ((entries[i].revents & ~POLLOUT) != 0) receive(*connections_[i - 2]);
    }
    if (entries[1].revents != 0) accept_some();
  }
  expire();
  flush();
  sweep();
}

RendezvousLoop::Clock::time_point RendezvousLoop::next_deadline(Clock::time_point limit) const {
  Clock::time_point next = limit;
  if (accept_again_ > Clock::now()) next = std::min(next, accept_again_);
  for (const auto& connection : connections_) {
    if (connection->state != Connection::State::kMember)
      next = std::min(next, connection->deadline);
  }
  for (const auto& [key, session] : meetings_) {
    next = std::min(next, session->next_deadline().value_or(next));
    if (key.branch && session->deserted()) next = std::min(next, session->late_until());
  }
  return next;
}

void RendezvousLoop::accept_some() {
  for (int i = 0; i < kAcceptsPerPass; ++i) {
    wire::Endpoint peer;
    peer.bytes = sizeof peer.storage;
    auto connection = std::make_unique<Connection>();
    connection->socket = wire::Socket::open([&] {
      return accept4(owner_.listener_.get(), peer.raw(), &peer.bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
    });
    if (!connection->socket) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN) break;
      log::warn("the rendezvous at ", owner_.endpoint_.text(),
                " cannot accept a connection: ", std::strerror(errno),
                "; raise `ulimit -n` for jobs of many ranks");
      accept_again_ = Clock::now() + seconds(1);
      break;
    }
    wire::tune(connection->socket);
    connection->address = peer.text();
    connection->deadline = Clock::now() + kUnknownFor;
    connections_.push_back(std::move(connection));
    receive(*connections_.back());  // its hello is usually there already
  }
  make_room();
}

// Closes the oldest unknown connections while there are too many, or (out of descriptors) any.
void RendezvousLoop::make_room() {
  const auto unknown = [](const auto& c) { return c->state == Connection::State::kUnknown; };
  auto excess = std::count_if(connections_.begin(), connections_.end(), unknown) - kMaxUnknown;
  if (accept_again_ > Clock::now()) excess = std::max<ptrdiff_t>(excess, 1);
  for (const auto& connection : connections_) {
    if (excess <= 0) return;
    if (!unknown(connection)) continue;
    turn_away(*connection, "too many connections that do not say who they are");
    --excess;
  }
}

void RendezvousLoop::receive(Connection& connection) {
  try {
    const int error = connection.inbox.read(connection.socket.get());
    while (connection.state != Connection::State::kClosed) {
      std::optional<wire::Frame> frame = connection.inbox.next();
      if (!frame) break;
      if (connection.state == Connection::State::kUnknown) {
        greet(connection, *frame);
      } else if (connection.state == Connection::State::kMember) {
        connection.session->handle(connection.rank, std::move(*frame), Clock::now());
      }
    }
    if (error != 0) close(connection, error);
  } catch (const Error& error) {
    turn_away(connection, error.what());
  }
}

void RendezvousLoop::greet(Connection& connection, const wire::Frame& frame) {
  const Hello hello = Hello::parse(frame);
  if (!owner_.recognises(hello)) {
    return turn_away(connection, "it does not know the secret of any communicator under way here");
  }
  std::shared_ptr<Session>& session = meetings_[{hello.number, hello.branch}];
  const bool met_again = session && hello.branch && session->over();  // before it was swept away
  if (!session || met_again) session = std::make_shared<Session>(owner_.endpoint_.text());
  if (session->enter(connection, hello, Clock::now())) {
    connection.state = Connection::State::kMember;
    connection.session = session;
    connection.rank = hello.rank;
    connection.inbox.allow(wire::kMaxPayloadBytes);
  } else {
    connection.state = Connection::State::kRefused;
  }
}

void RendezvousLoop::turn_away(Connection& connection, std::string_view why) {
  if (connection.state == Connection::State::kClosed) return;
  if (warnings_ < kMaxWarnings) {
    log::warn("the rendezvous at ", owner_.endpoint_.text(), " closed the connection of ",
              connection.address, ": ", why);
    if (++warnings_ == kMaxWarnings) log::warn("no more such warnings from this process");
  }
  close(connection, EPROTO);
}

void RendezvousLoop::close(Connection& connection, int error) {
  if (connection.state == Connection::State::kClosed) return;
  const bool member = connection.state == Connection::State::kMember;
  connection.state = Connection::State::kClosed;
  if (member) connection.session->lost(connection.rank, how_it_ended(error));
}

void RendezvousLoop::flush() {
  for (const auto& connection : connections_) {
    if (connection->state == Connection::State::kClosed) continue;
    const int error = connection->outbox.flush(connection->socket.get());
    if (error != 0) {
      close(*connection, error);
    } else if (connection->state == Connection::State::kRefused && connection->outbox.empty()) {
      close(*connection, 0);
    }
  }
}

void RendezvousLoop::expire() {
  const auto now = Clock::now();
  for (const auto& connection : connections_) {
    if (connection->state == Connection::State::kMember || connection->deadline > now) continue;
    if (connection->state == Connection::State::kUnknown) {
      log::info("the rendezvous at ", owner_.endpoint_.text(), " closed the connection of ",
                connection->address, ": it did not say who it is");
    }
    close(*connection, ETIMEDOUT);
  }
  for (const auto& [key, session] : meetings_) session->expire(now);
}

void RendezvousLoop::sweep() {
  std::erase_if(connections_, [](const auto& c) { return c->state == Connection::State::kClosed; });
  const auto now = Clock::now();
  std::erase_if(meetings_, [&](const auto& meeting) {
    if (!done_with(meeting, now)) return false;
    if (!meeting.first.branch) owner_.forget(meeting.first.number);
    return true;
  });
  owner_.meetings_ = meetings_.size();
}

bool RendezvousLoop::done_with(const Meetings::value_type& meeting, Clock::time_point now) const {
  const auto& [key, session] = meeting;
  if (session->over()) return true;
  // One whose set-up failed is kept: it tells the reason to those who come late.
  if (!session->deserted()) return false;
  return !owner_.knows(key.number) || (key.branch && session->late_until() <= now);
}

bool RendezvousLoop::has_output() const {
  return std::any_of(connections_.begin(), connections_.end(),
                     [](const auto& connection) { return !connection->outbox.empty(); });
}

}  // namespace slimccl::runtime
