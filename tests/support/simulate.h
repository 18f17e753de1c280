// Runs all ranks' plans in one thread, in a random order of what is ready, and moves real data: the
// oracle of the plan laws. Messages are buffered (eager: a send finishes at once) or rendezvous
// (send and receive finish together).
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "collectives/catalog.h"
#include "collectives/link.h"
#include "support/message.h"

namespace slimccl::testing {

enum class Delivery : uint8_t { kEager, kRendezvous };

// One rank's memory. Where in_place is set, output lies inside input or the other way round (see
// place()).
struct RankMemory {
  std::vector<std::byte> memory;  // holds input and output
  uint64_t input_at = 0, output_at = 0;
  MessageBytes scratch;
  quant::Scalar scale{};  // what `scaled` operands are multiplied by
};

// Room for the buffers of `rank` with NCCL's in-place layout if asked for; input and output are
// zero.
[[nodiscard]] RankMemory place(const collectives::Shape& shape, int ranks, int rank, bool in_place);
// Where Output lies as seen from Input.
[[nodiscard]] collectives::Alias alias_of(const collectives::Shape& shape, int rank, bool in_place);

// Runs to the end; returns false if nothing was ready before all was done (a deadlock).
[[nodiscard]] bool simulate(const collectives::Shape& shape,
                            std::span<const collectives::Plan> plans,
                            std::span<const collectives::Links> links, std::span<RankMemory> ranks,
                            Delivery delivery, std::mt19937& random);

}  // namespace slimccl::testing
