// The laws that plans must obey, checked on all ranks' plans together. Each returns the first
// violation as a text that names ranks and steps, or an empty string. Pure; tests run them over the
// whole catalogue.
#pragma once

#include <span>
#include <string>

#include "collectives/catalog.h"
#include "collectives/link.h"
#include "collectives/plan.h"

namespace slimccl::collectives {

// Bytes of a rank's buffers for a shape; what a plan's slices must stay within.
[[nodiscard]] uint64_t input_bytes(const Shape& shape, int ranks);
[[nodiscard]] uint64_t output_bytes(const Shape& shape, int ranks);

// Slices in bounds; messages start 64-byte aligned in scratch; operands' bytes are what their codec
// needs.
[[nodiscard]] std::string check_slices(const Plan& plan, const Shape& shape, int ranks);
// Every send meets one receive of equal bytes and level, and (peer, tag) is unique.
[[nodiscard]] std::string check_messages(std::span<const Plan> plans);
// The union of all ranks' plans, with each send and its receive fused into one rendezvous, has no
// cycle: no order of execution can deadlock, buffered or not.
[[nodiscard]] std::string check_acyclic(std::span<const Plan> plans, std::span<const Links> links);
// A step's predecessors are all of lower levels.
[[nodiscard]] std::string check_levels(const Plan& plan, const Links& links);
// Where plans say that a level gathers in the node, its messages are that gather and nothing else.
[[nodiscard]] std::string check_gathers(std::span<const Plan> plans, const Topology& topology);
// What the plans' sends add up to, by tier.
[[nodiscard]] WireBytes sent_bytes(std::span<const Plan> plans, const Topology& topology);

}  // namespace slimccl::collectives
