// Teams: which of a communicator's ranks are of one node, and which share a place in theirs.
#include <string_view>

#include "api/export.h"
#include "api/guard.h"
#include "api/registry.h"
#include "base/error.h"
#include "slimccl/nccl_device.h"

namespace api = slimccl::api;

namespace {

struct Teams {
  ncclTeam_t world, lsa, rail;
};

Teams teams_of(ncclComm_t comm) {
  const auto communicator = api::communicator_of(comm);
  const int ranks = communicator->ranks(), rank = communicator->rank();
  const int size = communicator->agreement().topology.team_size();
  return {{ranks, rank, 1}, {size, rank % size, 1}, {ranks / size, rank / size, size}};
}

ncclTeam_t team(std::string_view function, ncclComm_t comm, ncclTeam_t Teams::*member) {
  ncclTeam_t result{};
  api::guard(function, [&] { result = teams_of(comm).*member; });
  return result;
}

// `given`'s `rank`-th, counted from the first of the `member` team.
int rank_within(std::string_view function, ncclComm_t comm, ncclTeam_t given, int rank,
                ncclTeam_t Teams::*member) {
  int result = -1;
  api::guard(function,
             [&] { result = (teams_of(comm).*member).rank + (rank - given.rank) * given.stride; });
  return result;
}

}  // namespace

SLIMCCL_TWIN(TeamWorld);
SLIMCCL_EXPORT ncclTeam_t ncclTeamWorld(ncclComm_t comm) {
  return team("ncclTeamWorld", comm, &Teams::world);
}

SLIMCCL_TWIN(TeamLsa);
SLIMCCL_EXPORT ncclTeam_t ncclTeamLsa(ncclComm_t comm) {
  return team("ncclTeamLsa", comm, &Teams::lsa);
}

SLIMCCL_TWIN(TeamRail);
SLIMCCL_EXPORT ncclTeam_t ncclTeamRail(ncclComm_t comm) {
  return team("ncclTeamRail", comm, &Teams::rail);
}

SLIMCCL_TWIN(TeamRankToWorld);
SLIMCCL_EXPORT int ncclTeamRankToWorld(ncclComm_t comm, ncclTeam_t given, int rank) {
  return rank_within("ncclTeamRankToWorld", comm, given, rank, &Teams::world);
}

SLIMCCL_TWIN(TeamRankToLsa);
SLIMCCL_EXPORT int ncclTeamRankToLsa(ncclComm_t comm, ncclTeam_t given, int rank) {
  return rank_within("ncclTeamRankToLsa", comm, given, rank, &Teams::lsa);
}
