// What the overlay does once the real NCCL has made a communicator: the ranks meet and agree, never
// through NCCL. Each function takes the real call's result and returns what the caller gets. Inside
// of a group it is done when the group ends.
#pragma once

#include <string>

#include "core/state.h"

namespace slimccl::overlay {

// What a config asks for, as far as it concerns us.
struct Wishes {
  bool blocking = true;
  std::string name;
};
// Reads no further than the config's own size; what it cannot understand it leaves out.
[[nodiscard]] Wishes wishes_of(const ncclConfig_t* config) noexcept;

ncclResult_t after_init(const slimccl_nccl* nccl, ncclComm_t* comm, int ranks, int rank,
                        const ncclUniqueId& id, const Wishes& wishes, ncclResult_t result) noexcept;
ncclResult_t after_init_all(const slimccl_nccl* nccl, ncclComm_t* comms, int ranks,
                            ncclResult_t result) noexcept;
ncclResult_t after_split(const slimccl_nccl* nccl, ncclComm_t parent, int color, int key,
                         ncclComm_t* child, const Wishes& wishes, ncclResult_t result) noexcept;
ncclResult_t after_shrink(const slimccl_nccl* nccl, ncclComm_t parent, const int* excluded,
                          int count, ncclComm_t* child, const Wishes& wishes,
                          ncclResult_t result) noexcept;

}  // namespace slimccl::overlay
