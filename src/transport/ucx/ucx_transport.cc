#include "transport/ucx/ucx_transport.h"

#include <unistd.h>

#include <cstring>
#include <mutex>
#include <new>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace slimccl::transport::ucx {
namespace {

constexpr std::chrono::milliseconds kFarewell{1000};  // for what was sent to leave
// For a live peer to take what UCX has begun to send it: breaking a connection while it is being
// made can upset the peer's UCX 1.13 (an assertion on endpoint ids), so this is generous.
constexpr std::chrono::milliseconds kAbort{3000};
constexpr std::chrono::milliseconds kForced{5000};  // for requests of broken connections to end
constexpr int kProgressCalls = 16;                  // bounds the work of one progress()

}  // namespace

UcxTransport::UcxTransport(std::shared_ptr<Worker> worker, int rank)
    : worker_(std::move(worker)), rank_(rank), channel_([this] {
        const std::lock_guard lock(worker_->mutex);
        return worker_->open_channel(*this);
      }()) {}

UcxTransport::~UcxTransport() {
  const std::lock_guard lock(worker_->mutex);
  if (!aborted_) {
    for (auto& [rank, peer] : peers_) {
      if (!peer.leaving.empty() || !(peer.connection || peer.greeted) || !connect(peer)) continue;
      send_control(peer, Kind::kLeft, 0, 0, {});
      if (!peer.connection->broken) controls_.flush(*peer.connection);
    }
    if (!end_requests(kFarewell)) {
      log::warn("rank ", rank_, " leaves although not all it sent to other nodes has been taken");
    }
  }
  early_.drain([&](const Route&, Early& early) { release(early); });
  worker_->close_channel(channel_);
}

void UcxTransport::add_peer(PeerLink link) {
  const std::lock_guard lock(worker_->mutex);
  const int rank = link.rank;
  Peer& peer =
      peers_.try_emplace(rank, Peer{.link = std::move(link), .connection = {}, .leaving = {}})
          .first->second;
  peer.greeted = greeted_before_connect_.contains(rank);
}

const Traits& UcxTransport::traits() const noexcept {
  static constexpr Traits kTraits{"ucx", true};
  return kTraits;
}

UcxTransport::Peer& UcxTransport::peer_of(int rank) {
  const auto found = peers_.find(rank);
  check(found != peers_.end(), ncclInvalidArgument, "rank ", rank, " is no UCX peer of rank ",
        rank_);
  return found->second;
}

void UcxTransport::lost(int rank, ucs_status_t status) noexcept {
  Peer& peer = peers_.at(rank);
  news_ = departures_ = true;
  if (!peer.leaving.empty()) return;  // it said farewell before
  peer.leaving = concat("connection to rank ", rank, " lost (", ucs_status_string(status), ")");
}

// False if there is no way.
bool UcxTransport::connect(Peer& peer) noexcept {
  if (peer.connection) return !peer.connection->broken;
  ucs_status_t status = UCS_OK;
  peer.connection = worker_->connect(peer.link.address, {this, peer.link.rank}, status);
  if (!peer.connection) {
    lost(peer.link.rank, status);
    return false;
  }
  // Makes the connection real, so that a peer we only receive from is missed when it dies.
  send_control(peer, Kind::kHello, channel_, static_cast<uint64_t>(peer.link.rank), {});
  return true;
}

void UcxTransport::send_control(Peer& peer, Kind kind, uint64_t tag, uint64_t bytes,
                                const std::string& text) noexcept {
  controls_.send(*peer.connection, {kMagic, peer.link.channel, rank_, kind, tag, bytes}, text);
}

Ticket UcxTransport::send(int rank, uint64_t tag, ConstBytes data) {
  const std::lock_guard lock(worker_->mutex);
  Peer& peer = peer_of(rank);
  const Ticket ticket =
      operations_.add({.is_send = true,
                       .peer = rank,
                       .header = {kMagic, peer.link.channel, rank_, Kind::kData, tag, data.size()},
                       .from = data,
                       .into = {},
                       .owner = this});
  Operation& operation = *operations_.find(ticket);
  if (aborted_) {
    operation.state = Progress::kFailed;
  } else if (!peer.leaving.empty() || !connect(peer)) {
    fail(operation, peer.leaving);
  } else {
    start_send(peer, operation);
  }
  return ticket;
}

void UcxTransport::start_send(Peer& peer, Operation& send) noexcept {
  ucp_request_param_t param = request_param(&send);
  param.cb.send = [](void* request, ucs_status_t status, void* ended) {
    Operation& operation = *static_cast<Operation*>(ended);
    operation.owner->end_request(operation, status);
    ucp_request_free(request);
  };
  const ucs_status_ptr_t request =
      ucp_am_send_nbx(peer.connection->endpoint, kMessageId, &send.header, sizeof send.header,
                      send.from.data(), send.from.size(), &param);
  if (UCS_PTR_IS_PTR(request)) {
    send.in_ucx = true;
    ++requests_;
  } else if (UCS_PTR_STATUS(request) == UCS_OK) {
    send.state = Progress::kDone;
    news_ = true;
  } else {
    worker_->break_connection(*peer.connection, UCS_PTR_STATUS(request));
    fail(send, peer.leaving);
  }
}

void UcxTransport::end_request(Operation& operation, ucs_status_t status) noexcept {
  --requests_;
  operation.in_ucx = false;
  news_ = true;
  if (status == UCS_OK && !aborted_) {
    operation.state = Progress::kDone;
    return;
  }
  const std::string& known = peers_.at(operation.peer).leaving;
  fail(operation, known.empty() ? concat("connection to rank ", operation.peer, " lost (",
                                         ucs_status_string(status), ")")
                                : known);
}

Ticket UcxTransport::recv(int rank, uint64_t tag, Bytes into) {
  const std::lock_guard lock(worker_->mutex);
  Peer& peer = peer_of(rank);
  const Ticket ticket =
      operations_.add({.is_send = false,
                       .peer = rank,
                       .header = {kMagic, channel_, rank, Kind::kData, tag, into.size()},
                       .from = {},
                       .into = into,
                       .owner = this});
  Operation& operation = *operations_.find(ticket);
  if (aborted_) {
    operation.state = Progress::kFailed;
  } else if (auto early = early_.take({rank, tag})) {
    take_early(operation, std::move(*early));
  } else if (peer.gone) {
    fail(operation, peer.leaving);
  } else {
    (void)connect(peer);  // if it cannot be, what has already come may still be the message
    ensure(posted_.put({rank, tag}, &operation), "rank ", rank_, " receives tag ", tag,
           " from rank ", rank, " twice at once");
  }
  return ticket;
}

void UcxTransport::take_early(Operation& recv, Early early) noexcept {
  if (early.bytes != recv.into.size()) {
    fail_size(recv, early.bytes);
    release(early);
  } else if (early.rendezvous) {
    start_fetch(recv, early.kept);
  } else {
    const void* data = early.copy ? early.copy.get() : early.kept;
    if (early.bytes > 0) std::memcpy(recv.into.data(), data, early.bytes);
    recv.state = Progress::kDone;
    news_ = true;
    release(early);
  }
}

void UcxTransport::start_fetch(Operation& recv, void* descriptor) noexcept {
  ucp_request_param_t param = request_param(&recv);
  param.cb.recv_am = [](void* request, ucs_status_t status, size_t, void* ended) {
    Operation& operation = *static_cast<Operation*>(ended);
    operation.owner->end_request(operation, status);
    ucp_request_free(request);
  };
  const ucs_status_ptr_t request = ucp_am_recv_data_nbx(worker_->handle(), descriptor,
                                                        recv.into.data(), recv.into.size(), &param);
  ++requests_;
  recv.in_ucx = true;
  if (!UCS_PTR_IS_PTR(request)) end_request(recv, UCS_PTR_STATUS(request));
}

void UcxTransport::release(Early& early) noexcept {
  if (early.kept != nullptr) ucp_am_data_release(worker_->handle(), early.kept);
  early.kept = nullptr;
}

bool UcxTransport::arrive(const Arrival& arrival) noexcept {
  if (aborted_) return false;
  if (arrival.header.kind == Kind::kData) return arrive_data(arrival);
  const auto found = peers_.find(arrival.header.sender);
  if (found == peers_.end()) {
    if (arrival.header.kind == Kind::kHello) greeted_before_connect_.insert(arrival.header.sender);
    return false;
  }
  Peer& peer = found->second;
  if (arrival.header.kind == Kind::kHello) {
    peer.greeted = true;
    return false;
  }
  news_ = departures_ = true;
  peer.leaving = concat("rank ", peer.link.rank, " has left the communicator");
  if (arrival.header.kind == Kind::kAborted && !arrival.rendezvous) {
    peer.leaving = concat("rank ", peer.link.rank, " aborted: ",
                          std::string_view(static_cast<const char*>(arrival.data), arrival.bytes));
  }
  return false;
}

bool UcxTransport::arrive_data(const Arrival& arrival) noexcept {
  news_ = true;
  const Route route{arrival.header.sender, arrival.header.tag};
  if (const auto posted = posted_.take(route)) {
    Operation& recv = **posted;
    if (recv.into.size() != arrival.bytes) {
      fail_size(recv, arrival.bytes);
      return false;
    }
    if (arrival.rendezvous) {
      start_fetch(recv, arrival.data);
      return true;
    }
    if (arrival.bytes > 0) std::memcpy(recv.into.data(), arrival.data, arrival.bytes);
    recv.state = Progress::kDone;
    return false;
  }
  Early early;
  early.bytes = arrival.bytes;
  early.rendezvous = arrival.rendezvous;
  if (arrival.can_keep) {
    early.kept = arrival.data;
  } else {
    early.copy.reset(new (std::nothrow) std::byte[arrival.bytes]);
    if (!early.copy) {
      log::warn("no memory for an early message of ", arrival.bytes, " bytes from rank ",
                route.peer, "; it is lost");
      return false;
    }
    if (arrival.bytes > 0) std::memcpy(early.copy.get(), arrival.data, arrival.bytes);
  }
  if (early_.put(route, std::move(early))) return arrival.can_keep;
  log::warn("rank ", route.peer, " sent tag ", route.tag,
            " again before the first was received; it is lost");
  return false;
}

void UcxTransport::fail(Operation& operation, const std::string& reason, bool misfit) noexcept {
  operation.state = Progress::kFailed;
  news_ = true;
  if (!failure_ && !aborted_) failure_ = PeerFailure{operation.peer, reason, misfit};
}

void UcxTransport::fail_size(Operation& recv, uint64_t sent) noexcept {
  fail(recv,
       concat("rank ", recv.peer, " sent ", sent, " bytes where ", recv.into.size(),
              " were expected (tag ", recv.header.tag, ")"),
       true);
}

// Receives that nothing will come for fail now; what UCX holds fails when it lets go.
void UcxTransport::declare_gone(Peer& peer) noexcept {
  peer.gone = true;
  news_ = true;
  posted_.take_all(peer.link.rank, [&](Operation* recv) { fail(*recv, peer.leaving); });
}

// True once UCX holds no buffer of ours. What can be sent is; where the peers do not take data in
// time, the connection is broken, for all who use it: that ends the rest. Callbacks of data refer
// to this object, so it must not go before that; a farewell may stay behind.
bool UcxTransport::end_requests(std::chrono::milliseconds limit) noexcept {
  using Clock = std::chrono::steady_clock;
  const auto drain = [&](Clock::time_point end, bool controls_too) {
    while (requests_ + (controls_too ? controls_.under_way() : 0) > 0 && Clock::now() < end) {
      if (worker_->progress() == 0) usleep(50);
    }
    return requests_ == 0;
  };
  if (drain(Clock::now() + limit, true)) return true;
  std::set<int> stuck;
  operations_.for_each_pending([&](const Operation& operation) {
    if (operation.in_ucx) stuck.insert(operation.peer);
  });
  for (const int rank : stuck)
    worker_->break_connection(*peers_.at(rank).connection, UCS_ERR_TIMED_OUT);
  if (!drain(Clock::now() + kForced, false))
    log::warn("UCX does not let go of ", requests_, " requests of rank ", rank_);
  return false;
}

Progress UcxTransport::poll(Ticket ticket) noexcept {
  const std::lock_guard lock(worker_->mutex);
  return operations_.poll(ticket);
}

bool UcxTransport::progress() noexcept {
  const std::lock_guard lock(worker_->mutex);
  unsigned moved = 0;
  int calls = 0;
  while (calls++ < kProgressCalls) {
    const unsigned now = worker_->progress();
    moved += now;
    if (now == 0) break;
  }
  // A peer is given up only when UCX has nothing more to hand over: what it sent before it left
  // still counts.
  if (departures_ && calls <= kProgressCalls && !aborted_) {
    departures_ = false;
    for (auto& [rank, peer] : peers_) {
      if (!peer.leaving.empty() && !peer.gone) declare_gone(peer);
    }
  }
  return std::exchange(news_, false) || moved > 0;
}

bool UcxTransport::arm() noexcept {
  const std::lock_guard lock(worker_->mutex);
  return !news_ && ucp_worker_arm(worker_->handle()) == UCS_OK;
}

bool UcxTransport::flushed() noexcept {
  const std::lock_guard lock(worker_->mutex);
  if (!std::exchange(flushing_, true)) {
    for (auto& [rank, peer] : peers_) {
      if (peer.connection && !peer.connection->broken) controls_.flush(*peer.connection);
    }
  }
  return requests_ + controls_.under_way() == 0;
}

void UcxTransport::abort(const std::string& reason) noexcept {
  const std::lock_guard lock(worker_->mutex);
  if (std::exchange(aborted_, true)) return;
  posted_.drain([](const Route&, Operation*) {});
  for (auto& [rank, peer] : peers_) {
    if (peer.connection && peer.leaving.empty()) send_control(peer, Kind::kAborted, 0, 0, reason);
  }
  (void)end_requests(kAbort);
  operations_.for_each_pending([](Operation& operation) { operation.state = Progress::kFailed; });
}

}  // namespace slimccl::transport::ucx
