#include "transport/shm/endpoint.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <random>

#include "base/error.h"
#include "transport/shm/shm_transport.h"

namespace slimccl::transport {
namespace {

using shm::Bell;
using shm::PeerLink;
using shm::Segment;

// The address: this, then the path of the segment (the bell's is the same with ".bell").
struct AddressHead {
  uint64_t magic;
  uint64_t nonce;
  uint64_t ring_bytes;
  uint64_t rings;
  int32_t rank;
  int32_t pid;
  char pid_world[112];
};

uint64_t fresh_nonce() {
  std::random_device source;
  return (uint64_t{source()} << 32) | source();
}

class Endpoint final : public ShmEndpoint {
 public:
  Endpoint(const ShmOptions& options, int rank, std::vector<int> local_ranks)
      : rank_(rank),
        local_ranks_(std::move(local_ranks)),
        path_(concat(options.directory, "/slimccl-", options.unique, "-", rank)),
        ring_bytes_(std::bit_ceil(std::max(options.ring_bytes, shm::kPage))) {
    check(!options.unique.empty() && options.unique.find('/') == std::string::npos,
          ncclInvalidArgument, "\"", options.unique,
          "\" cannot be part of a file name; give a non-empty name without a slash");
    check(std::ranges::find(local_ranks_, rank) != local_ranks_.end(), ncclInvalidArgument, "rank ",
          rank, " is not among the local ranks it was given");
    segment_.emplace(Segment::create(path_, ring_bytes_, local_ranks_.size(), nonce_));
    try {
      bell_.emplace(Bell::create(bell_path(path_)));
    } catch (...) {
      unlink(path_.c_str());
      throw;
    }
  }
  ~Endpoint() override { unlink_files(); }

  std::vector<std::byte> address() const override {
    AddressHead head{shm::kMagic, nonce_, ring_bytes_, local_ranks_.size(), rank_, getpid(), {}};
    const std::string world = shm::pid_world();
    std::memcpy(head.pid_world, world.data(), std::min(world.size(), sizeof head.pid_world - 1));
    std::vector<std::byte> bytes(sizeof head + path_.size());
    std::memcpy(bytes.data(), &head, sizeof head);
    std::memcpy(bytes.data() + sizeof head, path_.data(), path_.size());
    return bytes;
  }

  std::unique_ptr<Transport> connect(std::span<const PeerAddress> peers) override {
    ensure(segment_.has_value(), "ShmEndpoint::connect called twice");
    std::vector<PeerLink> links;
    for (const PeerAddress& peer : peers) {
      if (peer.rank != rank_) links.push_back(open_link(peer));
    }
    auto transport = std::make_unique<shm::ShmTransport>(rank_, std::move(*segment_),
                                                         std::move(*bell_), std::move(links));
    segment_.reset();
    bell_.reset();
    return transport;
  }

  void unlink_files() noexcept override {
    if (unlinked_) return;
    unlinked_ = true;
    unlink(path_.c_str());
    unlink(bell_path(path_).c_str());
  }

 private:
  static std::string bell_path(const std::string& path) { return path + ".bell"; }

  [[nodiscard]] uint64_t ring_of(int rank) const {
    const auto found = std::ranges::find(local_ranks_, rank);
    check(found != local_ranks_.end(), ncclInvalidArgument, "rank ", rank,
          " is not on the node of rank ", rank_);
    return static_cast<uint64_t>(found - local_ranks_.begin());
  }

  [[nodiscard]] PeerLink open_link(const PeerAddress& peer) const {
    AddressHead head{};
    check(peer.address.size() > sizeof head, ncclInternalError, "rank ", peer.rank,
          " sent no shared-memory address; use one version of SlimCCL on all ranks");
    std::memcpy(&head, peer.address.data(), sizeof head);
    check(head.magic == shm::kMagic && head.rank == peer.rank &&
              head.rings == local_ranks_.size() && head.ring_bytes == ring_bytes_,
          ncclInvalidUsage, "the shared-memory address of rank ", peer.rank, " (", head.rings,
          " rings of ", head.ring_bytes, " bytes) does not fit rank ", rank_, "'s (",
          local_ranks_.size(), " of ", ring_bytes_,
          "); use one version and equal settings on all ranks");
    const std::string path(reinterpret_cast<const char*>(peer.address.data()) + sizeof head,
                           peer.address.size() - sizeof head);
    PeerLink link{.rank = peer.rank,
                  .pid = head.pid,
                  .segment = Segment::open(path, ring_bytes_, head.rings, head.nonce),
                  .bell = Bell::open(bell_path(path)),
                  .life = {},
                  .ring_in_theirs = ring_of(rank_),
                  .ring_in_ours = ring_of(peer.rank)};
    head.pid_world[sizeof head.pid_world - 1] = 0;
    const std::string world = shm::pid_world();
    // Its pid means nothing in another pid namespace; and a thread of this process dies only with
    // us.
    if (!world.empty() && world == head.pid_world && head.pid != getpid())
      link.life = shm::watch(head.pid);
    return link;
  }

  const int rank_;
  const std::vector<int> local_ranks_;
  const std::string path_;
  const uint64_t ring_bytes_;
  const uint64_t nonce_ = fresh_nonce();
  std::optional<Segment> segment_;
  std::optional<Bell> bell_;
  bool unlinked_ = false;
};

}  // namespace

std::unique_ptr<ShmEndpoint> ShmEndpoint::create(const ShmOptions& options, int rank,
                                                 std::vector<int> local_ranks) {
  return std::make_unique<Endpoint>(options, rank, std::move(local_ranks));
}

}  // namespace slimccl::transport
