#include "api/comm_config.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "base/error.h"

namespace slimccl::api {
namespace {

constexpr unsigned int kMagic = 0xcafebeef;
constexpr unsigned int kNamesSince = NCCL_VERSION(2, 27, 0);  // commName lies elsewhere before

}  // namespace

Wishes wishes_of(const ncclConfig_t* config, const Wishes& inherited) {
  Wishes wishes = inherited;
  if (config == nullptr) return wishes;
  check(config->magic == kMagic, ncclInvalidArgument,
        "config was not set to NCCL_CONFIG_INITIALIZER before the call");
  // Its size is that of the caller's header: older ones end earlier, newer ones later.
  check(config->size >= offsetof(ncclConfig_t, blocking) + sizeof config->blocking,
        ncclInvalidArgument, "config->size is ", config->size,
        ", less than any version of ncclConfig_t has");
  ncclConfig_t known = NCCL_CONFIG_INITIALIZER;
  std::memcpy(&known, config, std::min(config->size, sizeof known));
  if (known.blocking != NCCL_CONFIG_UNDEF_INT) {
    check(known.blocking == 0 || known.blocking == 1, ncclInvalidArgument, "config->blocking is ",
          known.blocking, "; it must be 0 or 1");
    wishes.blocking = known.blocking == 1;
  }
  if (known.version >= kNamesSince && known.commName != nullptr) wishes.name = known.commName;
  return wishes;
}

}  // namespace slimccl::api
