// How the ranks of one communicator meet and agree.
#pragma once

#include <string>

#include "core/state.h"

namespace slimccl::overlay {

// They meet under `place`. Returns an error only if the communicator was ended meanwhile, by
// another thread: then *comm is null. Otherwise the entry has its standing, and one rank has said
// it.
[[nodiscard]] ncclResult_t meet(Entry& entry, const ncclUniqueId& place, ncclComm_t* comm);
// Who says that a communicator is exact, where somebody should hear of it. Each process: rank 0 may
// be without the overlay, or of another opinion; so all say the first, and rank 0 each of them.
enum class Warns : uint8_t { kNobody, kRank0, kEachProcess };

// They do not: the communicator is exact because of `standing`.
void stay_exact(Entry& entry, Reason standing, std::string why, Warns who);

}  // namespace slimccl::overlay
