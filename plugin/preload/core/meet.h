// How the ranks of one communicator meet and agree.
#pragma once

#include <string>

#include "core/state.h"

namespace slimccl::overlay {

// They meet under `place`. Returns an error only if the communicator was ended meanwhile, by
// another thread: then *comm is null. Otherwise the entry has its standing, and one rank has said
// it.
[[nodiscard]] ncclResult_t meet(Entry& entry, const ncclUniqueId& place, ncclComm_t* comm);
// They do not: the communicator is exact because of `standing`; `warns`: somebody should hear of
// it.
void stay_exact(Entry& entry, Reason standing, std::string why, bool warns);

}  // namespace slimccl::overlay
