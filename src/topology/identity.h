// Which node this process is on, and how other nodes reach it. Apart from discover.h, so that who
// only asks this needs no hwloc.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/config.h"

namespace slimccl::topology {

// Ranks with equal strings are on one node: they can share memory. SLIMCCL_NODE_ID, else
// NCCL_HOSTID, else the boot id with the device number of /dev/shm, which tells apart containers
// that do not see each other's memory.
[[nodiscard]] std::string node_identity(const Config& config);

// The IP address by which other nodes reach this process: SLIMCCL_ADDRESS (an IP or an interface),
// else the first interface that serves, else 127.0.0.1. Throws Error if SLIMCCL_ADDRESS names
// neither.
[[nodiscard]] std::string reachable_address(const Config& config);

// One address of one interface, and the choice among them as a pure function ("" if none serves).
struct InterfaceAddress {
  std::string interface, ip;
  bool up, loopback, v6, link_local;
};
[[nodiscard]] std::string choose_address(std::span<const InterfaceAddress> all,
                                         std::string_view wanted);

}  // namespace slimccl::topology
