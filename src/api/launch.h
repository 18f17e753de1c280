// Hands a group's calls to their communicators.
#pragma once

#include <vector>

#include "api/group.h"

namespace slimccl::api {

// Returns ncclSuccess when it is done (some call had no stream) or queued (all had one);
// ncclInProgress where a non-blocking communicator would have to wait. Throws Error.
ncclResult_t launch(std::vector<Task> tasks);

// Seconds that the group would take, by the cost model.
[[nodiscard]] double estimate(std::vector<Task> tasks);

}  // namespace slimccl::api
