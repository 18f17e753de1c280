#include "transport/loopback/hub.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>

#include "base/error.h"

namespace slimccl::transport {

LoopbackHub::LoopbackHub(int count) {
  check(count > 0, ncclInvalidArgument, "a loopback hub of ", count,
        " ranks: at least one is needed");
  for (int rank = 0; rank < count; ++rank) {
    Rank& added = ranks_.emplace_back();
    added.event = Fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    check(static_cast<bool>(added.event), ncclSystemError, "eventfd failed: ", std::strerror(errno),
          "; raise the limit of open files (ulimit -n)");
  }
}

void LoopbackHub::wake(Rank& rank) noexcept {
  rank.news = true;
  if (!rank.armed) return;
  rank.armed = false;
  const uint64_t one = 1;
  (void)!::write(rank.event.get(), &one, sizeof one);  // fails only when it is readable already
}

void LoopbackHub::finish(Rank& rank, LoopbackOperation& operation, Progress state) noexcept {
  operation.state = state;
  wake(rank);
}

void LoopbackHub::fail(Rank& rank, LoopbackOperation& operation, const std::string& reason,
                       bool misfit) {
  if (!rank.failure) rank.failure = PeerFailure{operation.peer, reason, misfit};
  finish(rank, operation, Progress::kFailed);
}

std::optional<std::string> LoopbackHub::why_gone(int peer) {
  const Rank& rank = at(peer);
  if (rank.state == State::kGone) return concat("rank ", peer, " has left the communicator");
  if (rank.state == State::kAborted) return concat("rank ", peer, " aborted: ", rank.reason);
  return std::nullopt;
}

void LoopbackHub::post_send(int rank, LoopbackOperation& send) {
  Rank& receiver = at(send.peer);
  const Route route{rank, send.tag};
  if (const auto gone = why_gone(send.peer)) {
    fail(at(rank), send, *gone);
  } else if (const auto recv = receiver.posted.take(route)) {
    receiver.ready.push_back({rank, {&send, {}}, *recv});
    wake(receiver);
  } else {
    ensure(receiver.early.put(route, {&send, {}}), "rank ", rank, " sends tag ", send.tag,
           " to rank ", send.peer, " a second time before the first was received");
  }
}

void LoopbackHub::post_recv(int rank, LoopbackOperation& recv) {
  Rank& receiver = at(rank);
  const Route route{recv.peer, recv.tag};
  if (auto message = receiver.early.take(route)) {
    receiver.ready.push_back({recv.peer, std::move(*message), &recv});
  } else if (const auto gone = why_gone(recv.peer)) {
    fail(receiver, recv, *gone);
  } else {
    ensure(receiver.posted.put(route, &recv), "rank ", rank, " receives tag ", recv.tag,
           " from rank ", recv.peer, " twice at once");
  }
}

bool LoopbackHub::copy_one(int rank) {
  std::unique_lock lock(mutex);
  Rank& receiver = at(rank);
  if (receiver.ready.empty()) return false;
  const Pair pair = std::move(receiver.ready.front());
  receiver.ready.pop_front();
  Rank& sender = at(pair.sender);
  const ConstBytes from =
      pair.message.send ? pair.message.send->from : ConstBytes(pair.message.left_behind);
  const Bytes into = pair.recv->into;
  const bool fits = from.size() == into.size();
  if (fits && !from.empty()) {
    ++receiver.copying;
    ++sender.copying;
    lock.unlock();
    std::memcpy(into.data(), from.data(), from.size());
    lock.lock();
    --receiver.copying;
    --sender.copying;
    copied.notify_all();
  }
  if (pair.message.send) finish(sender, *pair.message.send, Progress::kDone);
  if (fits) {
    finish(receiver, *pair.recv, Progress::kDone);
  } else {
    fail(receiver, *pair.recv,
         concat("sent ", from.size(), " bytes where ", into.size(), " were expected (tag ",
                pair.recv->tag, ")"),
         true);
  }
  return true;
}

// Messages that an orderly leaver has sent arrive all the same: their bytes stay in the hub.
void LoopbackHub::hand_over_sends(int rank) {
  at(rank).operations.for_each_pending([&](LoopbackOperation& send) {
    if (!send.is_send) return;
    Rank& receiver = at(send.peer);
    auto message = receiver.early.take({rank, send.tag});
    if (message) {
      message->left_behind.assign(send.from.begin(), send.from.end());
      message->send = nullptr;
      (void)receiver.early.put({rank, send.tag}, std::move(*message));
    }
    for (Pair& pair : receiver.ready) {
      if (pair.message.send != &send) continue;
      pair.message.left_behind.assign(send.from.begin(), send.from.end());
      pair.message.send = nullptr;
    }
    send.state = Progress::kDone;
  });
}

// Takes every pending operation of `rank` out of the places where others could find it, and fails
// it.
void LoopbackHub::drop_operations(int rank) {
  Rank& self = at(rank);
  while (!self.ready.empty()) {
    const Pair pair = std::move(self.ready.front());
    self.ready.pop_front();
    if (pair.message.send) fail(at(pair.sender), *pair.message.send, *why_gone(rank));
  }
  self.posted.drain([](const Route&, LoopbackOperation*) {});
  self.operations.for_each_pending([&](LoopbackOperation& operation) {
    if (operation.is_send) {
      Rank& receiver = at(operation.peer);
      (void)receiver.early.take({rank, operation.tag});
      for (auto pair = receiver.ready.begin(); pair != receiver.ready.end();) {
        if (pair->message.send != &operation) {
          ++pair;
          continue;
        }
        fail(receiver, *pair->recv, *why_gone(rank));
        pair = receiver.ready.erase(pair);
      }
    }
    operation.state = Progress::kFailed;
  });
}

void LoopbackHub::fail_peers_of(int rank) {
  const std::string reason = *why_gone(rank);
  at(rank).early.drain([&](const Route& route, Message& message) {
    if (message.send) fail(at(route.peer), *message.send, reason);
  });
  for (Rank& receiver : ranks_) {
    receiver.posted.take_all(rank, [&](LoopbackOperation* recv) { fail(receiver, *recv, reason); });
  }
}

void LoopbackHub::leave(int rank, State how, const std::string& reason) {
  std::unique_lock lock(mutex);
  Rank& self = at(rank);
  if (self.state != State::kHere) {
    if (how == State::kGone && self.state == State::kAborted) return;
    if (self.state == how) return;
  }
  self.state = how;  // from here on nobody can start another copy with this rank's buffers but
                     // those matched before
  self.reason = reason;
  copied.wait(lock, [&] { return self.copying == 0; });
  if (how == State::kGone) hand_over_sends(rank);
  drop_operations(rank);
  fail_peers_of(rank);
  wake(self);
}

}  // namespace slimccl::transport
