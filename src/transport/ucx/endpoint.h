// Ranks on different nodes, by UCX: the factory. Every rank does, in this order:
//   auto endpoint = UcxEndpoint::create(UcxWorker::shared(options), rank);
//   ... all-gather endpoint->address() ...
//   auto transport = endpoint->connect(peers);
// and may then destroy the endpoint. Connections are made at the first send or receive with a peer.
//
// All transports of a worker share its wait_fd(): progress() of one may settle operations of
// another. So before sleeping call progress() on all, poll what is awaited, then arm() all, and
// sleep only if all were armed.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "transport/address.h"
#include "transport/transport.h"

namespace slimccl::transport {

// What the code decides; everything else is UCX's default or the user's UCX_* environment.
struct UcxOptions {
  std::string tls;                        // UCX_TLS; empty: not touched
  std::string net_devices;                // UCX_NET_DEVICES; empty: not touched
  std::string keepalive_interval = "2s";  // unless UCX_KEEPALIVE_INTERVAL is set
};

// Of the library this process runs with, e.g. "1.13.1". Two versions in one job do not mix;
// connect() refuses them.
[[nodiscard]] std::string ucx_version();

// A UCX context and worker. Calls on it are serialised by its own lock; it is meant to be driven by
// one thread.
class UcxWorker {
 public:
  // The process's one, made at the first call (whose options hold) and kept while anyone holds it.
  static std::shared_ptr<UcxWorker> shared(const UcxOptions& options);
  // One of one's own: for tests, whose ranks are threads.
  static std::shared_ptr<UcxWorker> make(const UcxOptions& options);
  virtual ~UcxWorker() = default;
};

class UcxEndpoint {
 public:
  static std::unique_ptr<UcxEndpoint> create(std::shared_ptr<UcxWorker> worker, int rank);
  virtual ~UcxEndpoint() = default;

  [[nodiscard]] virtual std::vector<std::byte> address() const = 0;
  // Once. An entry for this rank itself is ignored. Throws Error when a peer runs another version
  // of UCX.
  [[nodiscard]] virtual std::unique_ptr<Transport> connect(std::span<const PeerAddress> peers) = 0;
};

}  // namespace slimccl::transport
