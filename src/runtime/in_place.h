// How a call's buffers lie to each other.
#pragma once

#include "collectives/link.h"
#include "runtime/work.h"

namespace slimccl::runtime {

struct BufferLayout {
  collectives::Alias alias;
  bool in_place;
};

// NCCL's in-place forms, or no overlap at all. Throws Error for anything else, which would be
// undefined behaviour.
[[nodiscard]] BufferLayout layout_of(const Call& call, int ranks, int rank);

}  // namespace slimccl::runtime
