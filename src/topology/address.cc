#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/handle.h"
#include "topology/identity.h"

namespace slimccl::topology {
namespace {

bool is_ip(const std::string& text) {
  std::array<std::byte, 16> ignored;
  return inet_pton(AF_INET, text.c_str(), ignored.data()) == 1 ||
         inet_pton(AF_INET6, text.c_str(), ignored.data()) == 1;
}

std::vector<InterfaceAddress> interface_addresses() {
  ifaddrs* list = nullptr;
  check(getifaddrs(&list) == 0, ncclSystemError,
        "cannot list the network interfaces: ", std::strerror(errno),
        "; set SLIMCCL_ADDRESS to this machine's IP address");
  const Handle<ifaddrs*, freeifaddrs> owner(list);
  std::vector<InterfaceAddress> all;
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr) continue;
    const int family = at->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    const void* raw =
        family == AF_INET
            ? static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(at->ifa_addr)->sin_addr)
            : &reinterpret_cast<sockaddr_in6*>(at->ifa_addr)->sin6_addr;
    std::array<char, INET6_ADDRSTRLEN> ip{};
    if (inet_ntop(family, raw, ip.data(), ip.size()) == nullptr) continue;
    const bool link_local =
        family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(static_cast<const in6_addr*>(raw)) != 0;
    const unsigned needed = IFF_UP | IFF_RUNNING;
    all.push_back({at->ifa_name, ip.data(), (at->ifa_flags & needed) == needed,
                   (at->ifa_flags & IFF_LOOPBACK) != 0, family == AF_INET6, link_local});
  }
  return all;
}

// Bridges and cables to containers of this very machine: other nodes do not see their addresses.
bool is_virtual(std::string_view interface) {
  return interface.starts_with("docker") || interface.starts_with("veth") ||
         interface.starts_with("virbr");
}

}  // namespace

std::string choose_address(std::span<const InterfaceAddress> all, std::string_view wanted) {
  const InterfaceAddress* best = nullptr;
  int best_cost = 0;
  for (const InterfaceAddress& one : all) {
    if (!one.up || one.link_local) continue;  // link-local: means another machine at every node
    if (wanted.empty() ? one.loopback : one.interface != wanted) continue;
    const int cost = (is_virtual(one.interface) ? 2 : 0) + (one.v6 ? 1 : 0);
    if (best == nullptr || cost < best_cost) {
      best = &one;
      best_cost = cost;
    }
  }
  return best == nullptr ? "" : best->ip;
}

std::string reachable_address(const Config& config) {
  if (is_ip(config.address)) return config.address;
  const std::vector<InterfaceAddress> all = interface_addresses();
  std::string chosen = choose_address(all, config.address);
  if (!chosen.empty()) return chosen;
  if (config.address.empty()) return "127.0.0.1";
  std::set<std::string> names;
  for (const InterfaceAddress& one : all) {
    if (one.up) names.insert(one.interface);
  }
  std::string listed;
  for (const std::string& name : names) listed += (listed.empty() ? "" : ", ") + name;
  throw Error(ncclInvalidUsage,
              concat("SLIMCCL_ADDRESS=\"", config.address,
                     "\" is neither an IP address nor an interface that is up and has one; "
                     "interfaces here: ",
                     listed));
}

}  // namespace slimccl::topology
