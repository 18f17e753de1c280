#include "team.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

#include "checks.h"
#include "workload.h"

namespace slimccl::perf {
namespace {

// The same idea of a node as the library's: what is overridden, else boot id and /dev/shm.
std::string node_text() {
  for (const char* variable : {"SLIMCCL_NODE_ID", "NCCL_HOSTID"}) {
    if (const char* text = std::getenv(variable); text != nullptr && *text != '\0') return text;
  }
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  struct stat shared {};
  (void)stat("/dev/shm", &shared);
  return boot + ":" + std::to_string(shared.st_dev);
}

std::vector<int> find_nodes(SideChannel& channel, size_t ranks_here) {
  const std::string text = node_text();
  const uint64_t mine = hash_bytes(text.data(), text.size());
  const auto labels = channel.gather_list(std::vector<uint64_t>(ranks_here, mine));
  std::vector<int> nodes;
  nodes.reserve(labels.size());
  for (const uint64_t label : labels) {
    nodes.push_back(static_cast<int>(std::ranges::find(labels, label) - labels.begin()));
  }
  return nodes;
}

}  // namespace

Team::Team(const Options& options, const Place& place)
    : channel_(place, options.timeout_s),
      members_(static_cast<size_t>(options.ranks_per_thread)),
      ranks_(place.world * options.ranks_per_thread),
      node_of_(find_nodes(channel_, members_.size())) {
  ncclUniqueId id{};
  if (place.rank == 0) require(ncclGetUniqueId(&id), "ncclGetUniqueId");
  id = channel_.from_root(id);
  require(ncclGroupStart(), "ncclGroupStart");
  for (size_t i = 0; i < members_.size(); ++i) {
    members_[i].rank = place.rank * options.ranks_per_thread + static_cast<int>(i);
    require(ncclCommInitRank(&members_[i].comm, ranks_, id, members_[i].rank), "ncclCommInitRank");
  }
  require(ncclGroupEnd(), "ncclCommInitRank");
  if (options.blocking) return;
  for (Member& member : members_)
    require(slimcclStreamCreate(&member.stream), "slimcclStreamCreate");
}

Team::~Team() {
  for (const Member& member : members_) {
    if (member.stream != nullptr) (void)slimcclStreamDestroy(member.stream);
  }
}

void Team::finish() {
  for (const Member& member : members_) {
    if (member.stream != nullptr) {
      require(slimcclStreamSynchronize(member.stream), "slimcclStreamSynchronize");
    }
  }
}

void Team::destroy() {
  channel_.barrier();
  for (const Member& member : members_) require(ncclCommDestroy(member.comm), "ncclCommDestroy");
}

}  // namespace slimccl::perf
