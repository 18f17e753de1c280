// What one rank learned of another before connecting: the bytes its endpoint's address() gave.
#pragma once

#include "base/bytes.h"

namespace slimccl::transport {

struct PeerAddress {
  int rank;
  ConstBytes address;
};

}  // namespace slimccl::transport
