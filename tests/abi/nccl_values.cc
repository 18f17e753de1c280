// Compiled twice, with HEADER and TABLE_FUNCTION set: see nvidia_header_test.cc.
#include <stddef.h>

#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include HEADER  // after stddef.h, which NVIDIA's needs

namespace {

template <class T>
std::string show(const T& value) {
  if constexpr (std::is_convertible_v<T, std::string>) {
    return value;
  } else if constexpr (std::is_pointer_v<T>) {
    return value == nullptr ? "null" : "a pointer";
  } else {
    return std::to_string(+value);
  }
}

// Of static storage: the bytes between the fields are zero.
const ncclConfig_t kConfig = NCCL_CONFIG_INITIALIZER;
const ncclSimInfo_t kSimInfo = NCCL_SIM_INFO_INITIALIZER;

template <class T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

// A function's type is compared by its mangled name, which knows the structs' tags but no typedefs.
// clang-format off
#define CONSTANT(what) {#what, show(what)},
#define FUNCTION(what) {#what, typeid(decltype(&(what))).name()},
#define OVERLOADED(what, ...) {#what, typeid(static_cast<__VA_ARGS__>(&(what))).name()},
#define TYPE(what) {#what, std::to_string(sizeof(what)) + ", " + std::to_string(alignof(what))},
#define FIELD(type, what) {#type "." #what, std::to_string(offsetof(type, what)) + ", " + \
                           typeid(decltype(type::what)).name()},

std::vector<std::pair<std::string, std::string>> TABLE_FUNCTION() {
  return {
#include "nvidia_names.inc"
      OVERLOADED(ncclTeamWorld, ncclTeam_t (*)(ncclComm_t))
      OVERLOADED(ncclTeamLsa, ncclTeam_t (*)(ncclComm_t))
      OVERLOADED(ncclTeamRail, ncclTeam_t (*)(ncclComm_t))
      OVERLOADED(ncclTeamRankToWorld, int (*)(ncclComm_t, ncclTeam_t, int))
      OVERLOADED(ncclTeamRankToLsa, int (*)(ncclComm_t, ncclTeam_t, int))
      TYPE(ncclComm_t) TYPE(ncclWindow_t) TYPE(ncclUniqueId) TYPE(ncclResult_t) TYPE(ncclRedOp_t)
      TYPE(ncclRedOp_dummy_t) TYPE(ncclDataType_t) TYPE(ncclScalarResidence_t) TYPE(ncclConfig_t)
      TYPE(ncclSimInfo_t) TYPE(ncclTeam_t) TYPE(cudaStream_t)
      FIELD(ncclUniqueId, internal)
      FIELD(ncclConfig_t, size) FIELD(ncclConfig_t, magic) FIELD(ncclConfig_t, version)
      FIELD(ncclConfig_t, blocking) FIELD(ncclConfig_t, cgaClusterSize) FIELD(ncclConfig_t, minCTAs)
      FIELD(ncclConfig_t, maxCTAs) FIELD(ncclConfig_t, netName) FIELD(ncclConfig_t, splitShare)
      FIELD(ncclConfig_t, trafficClass) FIELD(ncclConfig_t, commName)
      FIELD(ncclConfig_t, collnetEnable) FIELD(ncclConfig_t, CTAPolicy)
      FIELD(ncclConfig_t, shrinkShare) FIELD(ncclConfig_t, nvlsCTAs)
      FIELD(ncclConfig_t, nChannelsPerNetPeer) FIELD(ncclConfig_t, nvlinkCentricSched)
      FIELD(ncclSimInfo_t, size) FIELD(ncclSimInfo_t, magic) FIELD(ncclSimInfo_t, version)
      FIELD(ncclSimInfo_t, estimatedTime)
      FIELD(ncclTeam_t, nRanks) FIELD(ncclTeam_t, rank) FIELD(ncclTeam_t, stride)
      {"NCCL_CONFIG_INITIALIZER", bytes_of(kConfig)},
      {"NCCL_SIM_INFO_INITIALIZER", bytes_of(kSimInfo)},
      {"NCCL_VERSION(2, 8, 4)", std::to_string(NCCL_VERSION(2, 8, 4))},
      {"NCCL_VERSION(2, 9, 0)", std::to_string(NCCL_VERSION(2, 9, 0))}};
}
