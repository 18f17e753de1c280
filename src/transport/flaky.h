// A transport that behaves badly on purpose, around one that does not: for tests of what is built
// on transports.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "transport/transport.h"

namespace slimccl::transport {

struct FlakyOptions {
  uint64_t seed = 1;
  // Each operation is held back for 0 to this many progress() calls; so operations overtake each
  // other, except those of equal direction, peer and tag.
  uint32_t max_delay = 0;
  // The operation of this number (from 0, sends and receives counted together) fails, and with it
  // everything: the inner transport is aborted, so that the peers see a failure too.
  std::optional<uint64_t> fail_operation;
  // The first operation with this peer fails in the same way.
  std::optional<int> fail_peer;
};

[[nodiscard]] std::unique_ptr<Transport> make_flaky(std::unique_ptr<Transport> inner,
                                                    const FlakyOptions& options);

}  // namespace slimccl::transport
