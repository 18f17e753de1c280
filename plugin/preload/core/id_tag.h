// The tag: a SlimCCL id in the 64 bytes of a real NCCL's unique id that it leaves zero. It leads
// the ranks to where they agree.
#pragma once

#include <optional>
#include <string>

#include "base/config.h"
#include "slimccl/nccl.h"

namespace slimccl::overlay {

// The IP address that the real NCCL chose to be reached at, as its id says; empty if it does not.
// Pure.
[[nodiscard]] std::string address_in(const ncclUniqueId& id);

// Starts listening at that address and writes the tag. False, and the id is as it was, if its end
// is in use. Throws Error if there is no listening.
[[nodiscard]] bool tag(ncclUniqueId& id, const Config& config);

// The SlimCCL id in the tag; nothing if there is none. Throws Error if it is of another version.
[[nodiscard]] std::optional<ncclUniqueId> tag_of(const ncclUniqueId& id);

}  // namespace slimccl::overlay
