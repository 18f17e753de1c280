#include "transport/ucx/endpoint.h"

#include <cstring>
#include <utility>

#include "base/error.h"
#include "transport/ucx/ucx_transport.h"

namespace slimccl::transport {
namespace {

// The address: this, then that of the worker.
struct AddressHead {
  uint32_t magic;
  uint32_t channel;
  int32_t rank;
  char version[20];
};

class Endpoint final : public UcxEndpoint {
 public:
  Endpoint(std::shared_ptr<ucx::Worker> worker, int rank)
      : worker_(std::move(worker)),
        rank_(rank),
        transport_(std::make_unique<ucx::UcxTransport>(worker_, rank)) {
    AddressHead head{ucx::kMagic, transport_->channel(), rank, {}};
    const std::string version = ucx_version();
    std::memcpy(head.version, version.data(), std::min(version.size(), sizeof head.version - 1));
    address_.resize(sizeof head);
    std::memcpy(address_.data(), &head, sizeof head);
    const std::lock_guard lock(worker_->mutex);
    const auto worker_address = worker_->address();
    address_.insert(address_.end(), worker_address.begin(), worker_address.end());
  }

  std::vector<std::byte> address() const override { return address_; }

  std::unique_ptr<Transport> connect(std::span<const PeerAddress> peers) override {
    ensure(transport_ != nullptr, "UcxEndpoint::connect called twice");
    for (const PeerAddress& peer : peers) {
      if (peer.rank == rank_) continue;
      AddressHead head{};
      check(peer.address.size() > sizeof head, ncclInternalError, "rank ", peer.rank,
            " sent no UCX address; use one version of SlimCCL on all ranks");
      std::memcpy(&head, peer.address.data(), sizeof head);
      check(head.magic == ucx::kMagic && head.rank == peer.rank, ncclInternalError,
            "the UCX address of rank ", peer.rank,
            " is not one; use one version of SlimCCL on all ranks");
      head.version[sizeof head.version - 1] = 0;
      check(head.version == ucx_version(), ncclInvalidUsage, "rank ", peer.rank, " runs UCX ",
            head.version, ", rank ", rank_, " runs ", ucx_version(),
            "; use one version of UCX on all nodes");
      const ConstBytes worker_address = peer.address.subspan(sizeof head);
      transport_->add_peer(
          {peer.rank,
           head.channel,
           {reinterpret_cast<const char*>(worker_address.data()), worker_address.size()}});
    }
    return std::move(transport_);
  }

 private:
  const std::shared_ptr<ucx::Worker> worker_;
  const int rank_;
  std::unique_ptr<ucx::UcxTransport>
      transport_;  // listens from the start: others may connect before we do
  std::vector<std::byte> address_;
};

}  // namespace

std::unique_ptr<UcxEndpoint> UcxEndpoint::create(std::shared_ptr<UcxWorker> worker, int rank) {
  return std::make_unique<Endpoint>(std::static_pointer_cast<ucx::Worker>(std::move(worker)), rank);
}

}  // namespace slimccl::transport
