// The functions behind slimccl_overlay's pointers: what the preloaded file calls in a hook's place.
#pragma once

#include "overlay.h"

namespace slimccl::overlay::hooks {

#define SLIMCCL_HOOK(NAME, ARGUMENTS, ...) ncclResult_t NAME(const slimccl_nccl* real, __VA_ARGS__);
SLIMCCL_HOOKS(SLIMCCL_HOOK)
#undef SLIMCCL_HOOK
ncclResult_t GroupStart(const slimccl_nccl* real);
ncclResult_t GroupEnd(const slimccl_nccl* real);
const char* GetLastError(const slimccl_nccl* real, ncclComm_t comm);
#define SLIMCCL_HOOK(NAME) ncclResult_t NAME();
SLIMCCL_OWN(SLIMCCL_HOOK)
#undef SLIMCCL_HOOK

}  // namespace slimccl::overlay::hooks
