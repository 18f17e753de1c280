// --local N: this process becomes the parent of N forked ranks. Call before any thread exists.
#pragma once

#include <optional>

namespace slimccl::perf {

// In a child: nothing, with torchrun's variables set. In the parent, once all children have ended:
// the worst exit code. The first child that fails or crashes ends the others.
[[nodiscard]] std::optional<int> fork_ranks(int ranks);

}  // namespace slimccl::perf
