#include "soak/teams.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace soak {
namespace {

constexpr size_t kMostTeams = 7;
constexpr int kColors = 3;

ncclConfig_t config_of(bool blocking) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = blocking ? 1 : 0;
  return config;
}

}  // namespace

int Team::place(int rank) const {
  const auto found = std::ranges::find(members, rank);
  return found == members.end() ? -1 : static_cast<int>(found - members.begin());
}

std::string Team::text() const {
  std::string text =
      "communicator " + std::to_string(id) + (blocking ? "" : " (non-blocking)") + " of";
  for (const int member : members) text += " " + std::to_string(member);
  return text;
}

Teams::Teams(Context& context) : context_(context) {
  std::vector<int> everybody(static_cast<size_t>(context.process.options.ranks()));
  std::iota(everybody.begin(), everybody.end(), 0);
  Random plain(0);
  init(plain, everybody);
}

void Teams::add(Team team) {
  const int place = team.place(context_.rank);
  if (place >= 0) {
    int count = 0, number = -1;
    const bool told = ncclCommCount(team.comm, &count) == ncclSuccess &&
                      ncclCommUserRank(team.comm, &number) == ncclSuccess;
    if (!told || count != team.size() || number != place) {
      context_.fail(team.text() + ": it says rank " + std::to_string(number) + " of " +
                    std::to_string(count) + ": " + ncclGetLastError(nullptr));
    }
    context_.process.watch(team.comm);
  } else if (team.comm != nullptr) {
    context_.fail(team.text() + ": a rank that is not in it got a handle");
  }
  teams_.push_back(std::move(team));
}

void Teams::init(Random& random, std::vector<int> members) {
  Team team{next_id_++, std::move(members), true, nullptr};
  const int how = teams_.empty() ? 0 : random.below(4);
  team.blocking = how != 1;
  const int place = team.place(context_.rank);
  if (place < 0) return add(team);
  context_.note("making " + team.text());
  ncclUniqueId id;
  if (place == 0) {
    context_.expect_done(ncclGetUniqueId(&id), {});
    context_.process.publish(team.id, id);
  } else {
    id = context_.process.await(team.id);
  }
  ncclConfig_t config = config_of(team.blocking);
  const int count = team.size();
  const ncclResult_t result =
      how == 0   ? ncclCommInitRank(&team.comm, count, id, place)
      : how == 3 ? ncclCommInitRankScalable(&team.comm, count, place, 1, &id, &config)
                 : ncclCommInitRankConfig(&team.comm, count, id, place, &config);
  context_.expect_done(result, {team.comm});
  add(team);
}

void Teams::init_all(int process) {
  const int threads = context_.process.options.threads;
  Team team{next_id_++, {}, true, nullptr};
  for (int thread = 0; thread < threads; ++thread)
    team.members.push_back(process * threads + thread);
  const int place = team.place(context_.rank);
  if (place >= 0) context_.note("ncclCommInitAll: " + team.text());
  if (place == 0) {
    std::vector<ncclComm_t> comms(team.members.size());
    context_.expect_done(ncclCommInitAll(comms.data(), team.size(), nullptr), {});
    context_.process.hand_over(team.id, comms);
  }
  if (place >= 0) team.comm = context_.process.take(team.id, static_cast<size_t>(place));
  add(team);
}

void Teams::split(Random& random, size_t parent_index, bool twin) {
  const Team parent = teams_[parent_index];
  struct Wish {
    int color, key, rank;
  };
  std::vector<Wish> wishes;
  for (const int member : parent.members) {
    const int color = twin ? 0 : random.below(kColors + 1) - 1;
    wishes.push_back({color, random.below(5) - 2, member});
  }
  const int config_dice = random.below(3);  // as the parent, blocking, non-blocking
  const bool blocking = config_dice == 0 ? parent.blocking : config_dice == 1;
  const int place = parent.place(context_.rank);
  ncclComm_t made = nullptr;
  if (place >= 0) {
    const Wish& mine = wishes[static_cast<size_t>(place)];
    context_.note("splitting " + parent.text() + " with colour " + std::to_string(mine.color));
    ncclConfig_t config = config_of(blocking);
    const ncclResult_t result = ncclCommSplit(parent.comm, mine.color, mine.key, &made,
                                              config_dice == 0 ? nullptr : &config);
    context_.expect_done(result, {mine.color < 0 ? parent.comm : made});
    if (mine.color < 0 && made != nullptr) context_.fail("NCCL_SPLIT_NOCOLOR gave a handle");
  }
  std::ranges::stable_sort(wishes, {}, &Wish::key);
  for (int color = 0; color < kColors; ++color) {
    Team team{next_id_++, {}, blocking, nullptr};
    for (const Wish& wish : wishes) {
      if (wish.color == color) team.members.push_back(wish.rank);
    }
    if (team.members.empty()) continue;
    if (team.place(context_.rank) >= 0) team.comm = made;
    add(team);
  }
}

void Teams::shrink(Random& random, size_t parent_index) {
  const Team parent = teams_[parent_index];
  if (parent.size() < 2) return;
  std::vector<int> places(parent.members.size());
  std::iota(places.begin(), places.end(), 0);
  random.shuffle(places);
  places.resize(1 + random.below(places.size() - 1));
  Team team{next_id_++, {}, parent.blocking, nullptr};
  for (int place = 0; place < parent.size(); ++place) {
    if (std::ranges::find(places, place) == places.end())
      team.members.push_back(parent.members[static_cast<size_t>(place)]);
  }
  if (team.place(context_.rank) >= 0) {
    context_.note("shrinking " + parent.text() + " to " + team.text());
    const ncclResult_t result =
        ncclCommShrink(parent.comm, places.data(), static_cast<int>(places.size()), &team.comm,
                       nullptr, NCCL_SHRINK_DEFAULT);
    context_.expect_done(result, {team.comm});
  }
  add(team);
}

void Teams::end(Team& team, End how) {
  if (how == End::kAbort) {  // its peers see a failure: nobody may be asking any more
    if (team.comm != nullptr) context_.process.forget(team.comm);
    int nothing = 0;
    context_.note("meeting before an abort of " + team.text());
    context_.expect_done(
        ncclAllReduce(&nothing, &nothing, 1, ncclInt32, ncclSum, world().comm, nullptr), {});
  }
  if (team.comm == nullptr) return;
  context_.note("the end of " + team.text());
  if (how == End::kFinalize) context_.expect_done(ncclCommFinalize(team.comm), {team.comm});
  context_.process.forget(team.comm);
  context_.expect_done(how == End::kAbort ? ncclCommAbort(team.comm) : ncclCommDestroy(team.comm),
                       {});
}

void Teams::make(Random& random) {
  const int ranks = context_.process.options.ranks();
  const int dice = random.below(100);
  const size_t parent = random.below(teams_.size());
  if (dice < 30) {
    std::vector<int> members(static_cast<size_t>(ranks));
    std::iota(members.begin(), members.end(), 0);
    random.shuffle(members);
    members.resize(1 + random.below(members.size()));
    init(random, members);
  } else if (dice < 50) {
    split(random, parent, false);
  } else if (dice < 75) {
    split(random, parent, true);
  } else if (dice < 90) {
    shrink(random, parent);
  } else {
    init_all(random.below(context_.process.options.processes));
  }
}

void Teams::change(Random& random) {
  for (size_t i = teams_.size(); i-- > 1;) {
    if (!random.chance(teams_.size() > kMostTeams ? 60 : 25)) continue;
    end(teams_[i], static_cast<End>(random.below(3)));
    teams_.erase(teams_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  for (int more = 1 + random.below(2); more > 0; --more) make(random);
}

void Teams::destroy_all() {
  while (!teams_.empty()) {
    end(teams_.back(), End::kDestroy);
    teams_.pop_back();
  }
}

}  // namespace soak
