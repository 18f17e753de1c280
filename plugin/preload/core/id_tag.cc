#include "core/id_tag.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "runtime/bootstrap.h"
#include "runtime/wire.h"

namespace slimccl::overlay {
namespace {

constexpr size_t kTagAt = 64, kTagBytes = sizeof(ncclUniqueId) - kTagAt;

bool untagged(const ncclUniqueId& id) {
  return std::all_of(id.internal + kTagAt, id.internal + sizeof id, [](char c) { return c == 0; });
}

// NCCL's: { u64 magic; union { sockaddr; sockaddr_in; sockaddr_in6 } }.
std::string nccl_address(const ncclUniqueId& id) {
  runtime::wire::Endpoint endpoint;
  std::memcpy(&endpoint.storage, id.internal + sizeof(uint64_t), sizeof(sockaddr_in6));
  const auto family = endpoint.storage.ss_family;
  if (family != AF_INET && family != AF_INET6) return "";
  if (endpoint.port() == 0) return "";
  if (family == AF_INET6) {
    // Of this link only: its text would lack the interface.
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&endpoint.storage);
    if (IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr) != 0) return "";
  }
  return endpoint.ip();
}

}  // namespace

std::string address_in(const ncclUniqueId& id) {
  try {
    return runtime::wire::parse_id(id).server.ip();  // the real one is SlimCCL's own
  } catch (const Error&) {
    return nccl_address(id);
  }
}

bool tag(ncclUniqueId& id, const Config& config) {
  if (!untagged(id)) return false;
  Config at = config;
  if (at.address.empty()) at.address = address_in(id);
  const ncclUniqueId ours = runtime::make_unique_id(at);
  std::memcpy(id.internal + kTagAt, ours.internal, kTagBytes);
  return true;
}

std::optional<ncclUniqueId> tag_of(const ncclUniqueId& id) {
  if (untagged(id)) return std::nullopt;
  ncclUniqueId ours{};
  std::memcpy(ours.internal, id.internal + kTagAt, kTagBytes);
  constexpr char kMagic[] = "SLIMCCL";
  if (std::memcmp(ours.internal, kMagic, sizeof kMagic) != 0) return std::nullopt;
  (void)runtime::wire::parse_id(ours);
  return ours;
}

}  // namespace slimccl::overlay
