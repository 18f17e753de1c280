// Ranks of one process: data goes straight from the sender's buffer into the receiver's.
// The hub is the meeting point of one communicator's ranks; each rank's transport may live on its
// own thread.
#pragma once

#include <memory>

#include "transport/transport.h"

namespace slimccl::transport {

class LoopbackHub;

// Shared because the last rank to leave, whichever it is, ends it.
[[nodiscard]] std::shared_ptr<LoopbackHub> make_loopback_hub(int ranks);

// Throws Error if `rank` is out of range or was taken before. Peers may come later: operations wait
// for them.
[[nodiscard]] std::unique_ptr<Transport> make_loopback(std::shared_ptr<LoopbackHub> hub, int rank);

}  // namespace slimccl::transport
