// Hands a group's calls to their communicators.
#pragma once

#include <vector>

#include "api/group.h"

namespace slimccl::api {

// Returns ncclSuccess when it is done (some call on host memory had no stream) or queued (all
// others; null is a stream, too, where a communicator has a CUDA device); ncclInProgress where a
// non-blocking communicator would have to wait. Throws Error.
ncclResult_t launch(std::vector<Task> tasks);

// Seconds that the group would take, by the cost model.
[[nodiscard]] double estimate(std::vector<Task> tasks);

}  // namespace slimccl::api
