// NCCL's configuration struct, as programs built with other versions of the header hand it over.
#pragma once

#include "api/registry.h"

namespace slimccl::api {

// What of `config` means something here: blocking and commName. Null, or a field that is undefined:
// as in `inherited`. Throws Error for a struct that was not initialized or a value that is none.
[[nodiscard]] Wishes wishes_of(const ncclConfig_t* config, const Wishes& inherited = {});

}  // namespace slimccl::api
