// The makers of each transport for the tests.
#pragma once

#include <unistd.h>

#include <atomic>
#include <memory>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "transport/loopback/loopback.h"
#include "transport/shm/endpoint.h"
#include "transport/ucx/endpoint.h"
#include "transport/world.h"

namespace slimccl::transport {

inline Maker loopback_maker() {
  return {"loopback", [](int ranks) -> MakeRank {
            auto hub = make_loopback_hub(ranks);
            return [hub](Gather&, int rank, int) { return make_loopback(hub, rank); };
          }};
}

inline std::vector<PeerAddress> peers_of(const std::vector<std::vector<std::byte>>& addresses) {
  std::vector<PeerAddress> peers;
  for (size_t rank = 0; rank < addresses.size(); ++rank)
    peers.push_back({static_cast<int>(rank), addresses[rank]});
  return peers;
}

inline Maker shm_maker(uint64_t ring_bytes = ShmOptions{}.ring_bytes) {
  return {ring_bytes < ShmOptions{}.ring_bytes ? "shm_small_ring" : "shm",
          [ring_bytes](int) -> MakeRank {
            static std::atomic<int> worlds = 0;
            const ShmOptions options{.unique = concat("test", getpid(), "-", worlds++),
                                     .ring_bytes = ring_bytes};
            return [options](Gather& gather, int rank, int ranks) {
              std::vector<int> local_ranks(static_cast<size_t>(ranks));
              std::iota(local_ranks.begin(), local_ranks.end(), 0);
              const auto endpoint = ShmEndpoint::create(options, rank, local_ranks);
              const auto addresses = gather.all_gather(rank, endpoint->address());
              auto transport = endpoint->connect(peers_of(addresses));
              gather.barrier(rank);
              endpoint->unlink_files();
              gather.barrier(rank);  // the tests look for left-over files
              return transport;
            };
          }};
}

// Over TCP on the loopback interface, as between nodes. A worker per rank, or the process's one for
// all.
inline Maker ucx_maker(bool one_worker = false) {
  return {one_worker ? "ucx_one_worker" : "ucx", [one_worker](int) -> MakeRank {
            return [one_worker](Gather& gather, int rank, int) {
              const UcxOptions options{.tls = "tcp", .net_devices = "lo"};
              auto worker = one_worker ? UcxWorker::shared(options) : UcxWorker::make(options);
              const auto endpoint = UcxEndpoint::create(std::move(worker), rank);
              return endpoint->connect(peers_of(gather.all_gather(rank, endpoint->address())));
            };
          }};
}

}  // namespace slimccl::transport
