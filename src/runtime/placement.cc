#include "runtime/placement.h"

#include <cstring>
#include <map>

#include "base/error.h"

namespace slimccl::runtime {

topology::Topology topology_of(std::span<const std::string> identities) {
  std::map<std::string, int> labels;
  std::vector<int> nodes;
  for (const std::string& identity : identities) {
    nodes.push_back(labels.try_emplace(identity, static_cast<int>(labels.size())).first->second);
  }
  return topology::Topology(nodes);
}

std::vector<ncclUniqueId> families_of(std::span<const std::string> texts) {
  std::vector<ncclUniqueId> families(texts.size());
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    check(texts[rank].size() <= sizeof(ncclUniqueId), ncclRemoteError, "rank ", rank,
          " sent a family id of ", texts[rank].size(), " bytes");
    std::memcpy(families[rank].internal, texts[rank].data(), texts[rank].size());
  }
  return families;
}

}  // namespace slimccl::runtime
