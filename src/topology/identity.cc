#include "topology/identity.h"

#include <sys/stat.h>

#include <fstream>

#include "base/error.h"

namespace slimccl::topology {

std::string node_identity(const Config& config) {
  if (!config.node_id.empty()) return config.node_id;
  const char* host_id = environment_variable("NCCL_HOSTID");
  if (host_id != nullptr && *host_id != '\0') return host_id;
  std::string boot_id;
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::getline(file, boot_id);
  struct stat memory {};
  check(!boot_id.empty() && stat("/dev/shm", &memory) == 0, ncclSystemError,
        "cannot tell which machine this is (needs /proc/sys/kernel/random/boot_id and /dev/shm): ",
        "set SLIMCCL_NODE_ID to the same text on the ranks of each machine");
  return concat(boot_id, "/", memory.st_dev);
}

}  // namespace slimccl::topology
