// Executors of all ranks of a communicator over loopback, driven by one thread.
#pragma once

#include <chrono>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "runtime/executor.h"
#include "topology/topology.h"
#include "transport/loopback/loopback.h"

namespace slimccl::runtime {

// All ranks of a communicator without bootstrap or threads.
class Cluster {
 public:
  Cluster(const std::string& text, const ExecutorLimits& limits) : topology(topology::parse(text)) {
    const auto hub = transport::make_loopback_hub(topology.ranks());
    for (int rank = 0; rank < topology.ranks(); ++rank) {
      std::vector<int> all;
      for (int peer = 0; peer < topology.ranks(); ++peer) all.push_back(peer);
      routers.push_back(std::make_unique<Router>(topology.ranks()));
      routers.back()->add(transport::make_loopback(hub, rank), all);
      executors.push_back(
          std::make_unique<ProgressExecutor>(topology, rank, *routers.back(), limits));
    }
  }

  // True when all executors are idle in time.
  bool run(double seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < end) {
      bool busy = false;
      for (size_t rank = 0; rank < executors.size(); ++rank) {
        routers[rank]->progress();
        executors[rank]->progress();
        busy |= !executors[rank]->idle();
      }
      if (!busy) return true;
    }
    return false;
  }

  topology::Topology topology;
  std::vector<std::unique_ptr<Router>> routers;
  std::vector<std::unique_ptr<ProgressExecutor>> executors;
};

}  // namespace slimccl::runtime
