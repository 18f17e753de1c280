// Ranks that are processes (or threads) of one node, by shared memory: the factory. Every rank
// does, in this order:
//   auto endpoint = ShmEndpoint::create(options, rank, local_ranks);   // makes its inbound rings
//   and its doorbell
//   ... all-gather endpoint->address() ...
//   auto transport = endpoint->connect(peers);                        // opens the others'
//   ... barrier ...
//   endpoint->unlink_files();                                         // from here on a killed job
//   leaves nothing
// The endpoint may then be destroyed; the transport does not need it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "transport/address.h"
#include "transport/transport.h"

namespace slimccl::transport {

struct ShmOptions {
  std::string unique;  // in the file names: equal on the ranks of a communicator, on no other
  uint64_t ring_bytes =
      2ull << 20;  // per peer, rounded up to a power of two, at least 4096; equal on all ranks
  std::string directory = "/dev/shm";  // a tmpfs all these ranks share
};

class ShmEndpoint {
 public:
  // `local_ranks`: the communicator's ranks on this node, this one included, in the same order
  // everywhere. Throws Error when the directory has no room for all rings now (nothing is left to a
  // SIGBUS later).
  static std::unique_ptr<ShmEndpoint> create(const ShmOptions& options, int rank,
                                             std::vector<int> local_ranks);
  virtual ~ShmEndpoint() = default;  // unlinks the files if that has not been done

  [[nodiscard]] virtual std::vector<std::byte> address() const = 0;
  // Once. An entry for this rank itself is ignored; a local rank without an entry is no peer.
  [[nodiscard]] virtual std::unique_ptr<Transport> connect(std::span<const PeerAddress> peers) = 0;
  virtual void unlink_files() noexcept = 0;
};

}  // namespace slimccl::transport
