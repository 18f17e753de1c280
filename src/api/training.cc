// What a trainer says between its collective calls.
#include "api/training.h"

#include "api/export.h"
#include "api/guard.h"
#include "base/pause.h"
#include "slimccl/slimccl.h"

namespace api = slimccl::api;

SLIMCCL_EXPORT ncclResult_t slimcclPause() {
  return api::guard("slimcclPause", [] { ++api::training().pauses; });
}

SLIMCCL_EXPORT ncclResult_t slimcclResume() {
  return api::guard("slimcclResume", [] {
    slimccl::check(slimccl::take_back_pause(api::training().pauses), ncclInvalidUsage,
                   slimccl::kNotPaused);
  });
}

SLIMCCL_EXPORT ncclResult_t slimcclStep() {
  return api::guard("slimcclStep", [] { ++api::training().steps; });
}
