#include "transport/shm/shm_transport.h"

#include <poll.h>
#include <sys/epoll.h>

#include <chrono>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace slimccl::transport::shm {
namespace {

// Bytes after which the other side is told, so that copying in and out overlap in cache-sized
// pieces...
constexpr uint64_t kPieceBytes = 64 << 10;
// ...and bytes moved per peer and direction in one progress().
constexpr uint64_t kBudgetBytes = 1 << 20;
// A rank that never sleeps looks at the peers' pidfds every so many idle calls.
constexpr uint32_t kIdleCallsPerLook = 256;
constexpr uint64_t kBellEvent = UINT64_MAX;
constexpr auto kFarewell = std::chrono::seconds(1);

void watch_event(int epoll, int fd, uint64_t data) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = data;
  check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, ncclSystemError,
        "epoll_ctl failed: ", std::strerror(errno), "; raise fs.epoll.max_user_watches");
}

}  // namespace

ShmTransport::Peer::Peer(PeerLink found, const Segment& ours)
    : link(std::move(found)),
      out(link.segment.ring(link.ring_in_theirs), link.segment.ring_data(link.ring_in_theirs),
          link.segment.header().ring_bytes),
      in(ours.ring(link.ring_in_ours), ours.ring_data(link.ring_in_ours),
         ours.header().ring_bytes) {}

ShmTransport::ShmTransport(int rank, Segment segment, Bell bell, std::vector<PeerLink> links)
    : rank_(rank),
      segment_(std::move(segment)),
      bell_(std::move(bell)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  check(static_cast<bool>(epoll_), ncclSystemError, "epoll_create1 failed: ", std::strerror(errno),
        "; raise the limit of open files (ulimit -n)");
  watch_event(epoll_.get(), bell_.fd(), kBellEvent);
  for (PeerLink& link : links) {
    const int peer_rank = link.rank;
    Peer& peer = peers_.try_emplace(peer_rank, std::move(link), segment_).first->second;
    if (peer.link.life.pidfd) {
      watch_event(epoll_.get(), peer.link.life.pidfd.get(), static_cast<uint64_t>(peer_rank));
    }
    if (peer.link.life.dead)
      peer.leaving = concat("rank ", peer_rank, " (pid ", peer.link.pid, ") died");
  }
}

ShmTransport::~ShmTransport() {
  if (aborted_) return;
  const auto limit = std::chrono::steady_clock::now() + kFarewell;
  const auto sending = [&] {
    for (const auto& [rank, peer] : peers_) {
      if (!peer.sends.empty()) return true;
    }
    return false;
  };
  while (sending() && std::chrono::steady_clock::now() < limit) {
    if (progress() || !arm()) continue;
    pollfd fd{wait_fd(), POLLIN, 0};
    ::poll(&fd, 1, 10);
  }
  if (sending())
    log::warn("rank ", rank_, " leaves although not all it sent in its node has been taken");
  say_farewell(OwnerState::kLeft);
}

const Traits& ShmTransport::traits() const noexcept {
  static constexpr Traits kTraits{"shm", false};
  return kTraits;
}

ShmTransport::Peer& ShmTransport::peer_of(int rank) {
  const auto found = peers_.find(rank);
  check(found != peers_.end(), ncclInvalidArgument, "rank ", rank,
        " is no shared-memory peer of rank ", rank_);
  return found->second;
}

Ticket ShmTransport::send(int rank, uint64_t tag, ConstBytes data) {
  Peer& peer = peer_of(rank);
  const Ticket ticket = operations_.add({.peer = rank, .tag = tag, .from = data, .into = {}});
  Operation& operation = *operations_.find(ticket);
  if (aborted_) {
    operation.state = Progress::kFailed;
  } else if (peer.gone) {
    fail(operation, peer.leaving);
  } else {
    peer.sends.push_back(&operation);
  }
  return ticket;
}

Ticket ShmTransport::recv(int rank, uint64_t tag, Bytes into) {
  Peer& peer = peer_of(rank);
  const Ticket ticket = operations_.add({.peer = rank, .tag = tag, .from = {}, .into = into});
  Operation& operation = *operations_.find(ticket);
  if (aborted_) {
    operation.state = Progress::kFailed;
  } else if (const auto early = early_.take({rank, tag})) {
    take_early(operation, *early);
  } else if (adopt_arriving(peer, operation)) {
  } else if (peer.gone) {
    fail(operation, peer.leaving);
  } else {
    ensure(posted_.put({rank, tag}, &operation), "rank ", rank_, " receives tag ", tag,
           " from rank ", rank, " twice at once");
  }
  return ticket;
}

void ShmTransport::take_early(Operation& recv, const Early& early) {
  if (early.bytes != recv.into.size()) return fail_size(recv, early.bytes);
  if (early.bytes > 0) std::memcpy(recv.into.data(), early.data.get(), early.bytes);
  recv.state = Progress::kDone;
  news_ = true;
}

// The receive of a message that is arriving on the heap: what is there moves over, the rest goes
// straight in.
bool ShmTransport::adopt_arriving(Peer& peer, Operation& recv) {
  Incoming& incoming = peer.incoming;
  if (!incoming.active || incoming.recv != nullptr || !incoming.heap || incoming.tag != recv.tag)
    return false;
  if (incoming.bytes == recv.into.size()) {
    std::memcpy(recv.into.data(), incoming.heap.get(), incoming.arrived);
    incoming.recv = &recv;
    incoming.to = recv.into.data();
  } else {
    fail_size(recv, incoming.bytes);
    incoming.to = nullptr;
  }
  incoming.heap.reset();
  return true;
}

void ShmTransport::fail(Operation& operation, const std::string& reason, bool misfit) noexcept {
  operation.state = Progress::kFailed;
  news_ = true;
  if (!failure_) failure_ = PeerFailure{operation.peer, reason, misfit};
}

void ShmTransport::fail_size(Operation& recv, uint64_t sent) noexcept {
  fail(recv,
       concat("rank ", recv.peer, " sent ", sent, " bytes where ", recv.into.size(),
              " were expected (tag ", recv.tag, ")"),
       true);
}

void ShmTransport::wake(Peer& peer) noexcept {
  std::atomic<uint32_t>& sleeping = peer.link.segment.header().sleeping;
  if (sleeping.load() != 0 && sleeping.exchange(0) != 0) peer.link.bell.ring();
}

void ShmTransport::publish(Peer& peer) noexcept {
  peer.out.publish();
  wake(peer);
}

bool ShmTransport::transmit(Peer& peer) noexcept {
  uint64_t moved = 0;
  while (!peer.sends.empty() && moved < kBudgetBytes) {
    Operation& send = *peer.sends.front();
    Bytes space = peer.out.writable();
    if (space.empty()) break;
    if (!peer.framed) {
      const FrameHeader frame{send.tag, send.from.size()};
      std::memcpy(space.data(), &frame, sizeof frame);
      peer.out.advance(sizeof frame);
      peer.framed = true;
      moved += sizeof frame;
      space = peer.out.writable();
    }
    const uint64_t piece =
        std::min<uint64_t>({space.size(), send.from.size() - peer.sent, kPieceBytes});
    if (piece > 0) std::memcpy(space.data(), send.from.data() + peer.sent, piece);
    peer.out.advance(round_up(piece, kGrain));
    moved += round_up(piece, kGrain);
    peer.sent += piece;
    if (peer.out.unpublished() >= kPieceBytes) publish(peer);
    if (peer.sent < send.from.size()) continue;
    send.state = Progress::kDone;
    peer.sends.pop_front();
    peer.sent = 0;
    peer.framed = false;
  }
  if (peer.out.unpublished() > 0) publish(peer);
  return moved > 0;
}

bool ShmTransport::receive(Peer& peer) noexcept {
  uint64_t moved = 0;
  while (moved < kBudgetBytes) {
    const ConstBytes there = peer.in.readable();
    if (there.empty()) break;
    if (!peer.incoming.active) {
      FrameHeader frame;
      std::memcpy(&frame, there.data(), sizeof frame);
      peer.in.advance(sizeof frame);
      moved += sizeof frame;
      begin_message(peer, frame);
    } else {
      Incoming& incoming = peer.incoming;
      const uint64_t piece =
          std::min<uint64_t>({there.size(), incoming.bytes - incoming.arrived, kPieceBytes});
      if (incoming.to != nullptr) std::memcpy(incoming.to + incoming.arrived, there.data(), piece);
      incoming.arrived += piece;
      peer.in.advance(round_up(piece, kGrain));
      moved += round_up(piece, kGrain);
    }
    if (peer.incoming.arrived == peer.incoming.bytes) end_message(peer);
    if (peer.in.unreleased() >= kPieceBytes && peer.in.release()) wake(peer);
  }
  if (peer.in.unreleased() > 0 && peer.in.release()) wake(peer);
  return moved > 0;
}

void ShmTransport::begin_message(Peer& peer, const FrameHeader& frame) noexcept {
  Incoming& incoming = peer.incoming;
  incoming = Incoming{};
  incoming.active = true;
  incoming.tag = frame.tag;
  incoming.bytes = frame.bytes;
  if (const auto recv = posted_.take({peer.link.rank, frame.tag})) {
    if ((*recv)->into.size() != frame.bytes) return fail_size(**recv, frame.bytes);
    incoming.recv = *recv;
    incoming.to = (*recv)->into.data();
    return;
  }
  incoming.heap.reset(new (std::nothrow) std::byte[frame.bytes]);
  incoming.to = incoming.heap.get();
  if (incoming.to == nullptr) {
    peer.leaving = concat("no memory for an early message of ", frame.bytes, " bytes from rank ",
                          peer.link.rank);
    declare_gone(peer);
  }
}

void ShmTransport::end_message(Peer& peer) noexcept {
  Incoming incoming = std::exchange(peer.incoming, Incoming{});
  if (incoming.recv != nullptr) {
    incoming.recv->state = Progress::kDone;
    return;
  }
  if (!incoming.heap) return;  // thrown away: its receive has failed
  if (early_.put({peer.link.rank, incoming.tag}, Early{std::move(incoming.heap), incoming.bytes}))
    return;
  peer.leaving = concat("rank ", peer.link.rank, " sent tag ", incoming.tag,
                        " again before the first was received");
  declare_gone(peer);
}

void ShmTransport::look_for_departure(Peer& peer) noexcept {
  if (!peer.leaving.empty()) return;
  const SegmentHeader& header = peer.link.segment.header();
  const OwnerState state = header.state.load();
  if (state == OwnerState::kOpen) return;
  if (state == OwnerState::kLeft) {
    peer.leaving = concat("rank ", peer.link.rank, " has left the communicator");
  } else {
    const size_t length = strnlen(header.abort_reason.data(), header.abort_reason.size());
    peer.leaving = concat("rank ", peer.link.rank,
                          " aborted: ", std::string_view(header.abort_reason.data(), length));
    if (!failure_) failure_ = PeerFailure{peer.link.rank, peer.leaving};
  }
}

// Nothing more is in the ring: what is still awaited will never come. An orderly leaver whom nobody
// needs is no failure.
void ShmTransport::declare_gone(Peer& peer) noexcept {
  peer.gone = true;
  news_ = true;
  if (peer.incoming.recv != nullptr) fail(*peer.incoming.recv, peer.leaving);
  peer.incoming = Incoming{};
  for (Operation* send : std::exchange(peer.sends, {})) fail(*send, peer.leaving);
  posted_.take_all(peer.link.rank, [&](Operation* recv) { fail(*recv, peer.leaving); });
}

void ShmTransport::look_at_events() noexcept {
  epoll_event events[16];
  const int count = epoll_wait(epoll_.get(), events, 16, 0);
  for (int i = 0; i < count; ++i) {
    if (events[i].data.u64 == kBellEvent) {
      bell_.silence();
      continue;
    }
    Peer& peer = peers_.at(static_cast<int>(events[i].data.u64));
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, peer.link.life.pidfd.get(), nullptr);
    look_for_departure(peer);  // an orderly leaver may well end its process then
    if (peer.leaving.empty()) {
      peer.leaving = concat("rank ", peer.link.rank, " (pid ", peer.link.pid, ") died");
      if (!failure_) failure_ = PeerFailure{peer.link.rank, peer.leaving};
    }
  }
}

bool ShmTransport::progress() noexcept {
  if (aborted_) return false;
  if (armed_ || ++idle_ % kIdleCallsPerLook == 0) {
    if (std::exchange(armed_, false)) segment_.header().sleeping.store(0);
    look_at_events();
  }
  bool moved = false;
  for (auto& [rank, peer] : peers_) {
    if (peer.gone) continue;
    look_for_departure(peer);  // before reading: what it wrote before it left is then visible
    moved |= receive(peer);
    if (peer.gone) continue;
    if (peer.leaving.empty()) {
      moved |= transmit(peer);
    } else if (peer.in.readable().empty()) {
      declare_gone(peer);
    }
  }
  return std::exchange(news_, false) || moved;
}

bool ShmTransport::arm() noexcept {
  if (news_) return false;
  segment_.header().sleeping.store(1);
  armed_ = true;
  for (auto& [rank, peer] : peers_) {
    if (peer.gone) continue;
    if (!peer.sends.empty()) {
      peer.out.announce_wait();
      if (peer.out.has_space()) return false;
    }
    if (!peer.in.readable().empty()) return false;
    if (!peer.leaving.empty() || peer.link.segment.header().state.load() != OwnerState::kOpen)
      return false;
  }
  return true;
}

void ShmTransport::say_farewell(OwnerState state) noexcept {
  segment_.header().state.store(state);
  for (auto& [rank, peer] : peers_) wake(peer);
}

void ShmTransport::abort(const std::string& reason) noexcept {
  if (std::exchange(aborted_, true)) return;
  auto& text = segment_.header().abort_reason;
  std::memcpy(text.data(), reason.data(), std::min(reason.size(), text.size() - 1));
  say_farewell(OwnerState::kAborted);
  operations_.for_each_pending([](Operation& operation) { operation.state = Progress::kFailed; });
  for (auto& [rank, peer] : peers_) {
    peer.sends.clear();
    peer.incoming = Incoming{};
  }
  posted_.drain([](const Route&, Operation*) {});
}

}  // namespace slimccl::transport::shm
