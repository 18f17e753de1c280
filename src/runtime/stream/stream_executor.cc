#include "runtime/stream/stream_executor.h"

#include <algorithm>
#include <list>
#include <map>
#include <vector>

#include "runtime/stream/team_run.h"

namespace slimccl::runtime {
namespace {

// Teams that go together: at most one of each device.
using Together = std::vector<TeamRun*>;

// All runs' parts of one segment. A level's messages are one group, for a process that has both
// ends of a message must name both before either can arrive.
void run_segment(const Together& runs) {
  int levels = 0;
  for (const TeamRun* run : runs) levels = std::max(levels, run->levels());
  for (int level = 0; level < levels; ++level) {
    for (TeamRun* run : runs) run->compute(level);
    MessageGroup group;
    for (TeamRun* run : runs) run->exchange(level, group);
    const auto current = runs.front()->in_context();
    group.finish();
  }
}

// Goes to number `index` of something in all runs, those that have no more of it too; true if any
// has.
template <class Begin>
bool any_begins(const Together& runs, Begin&& begin) {
  bool any = false;
  for (TeamRun* run : runs) any |= begin(*run);
  return any;
}

void run_together(const Together& runs) {
  for (TeamRun* run : runs) run->begin();
  for (size_t batch = 0; any_begins(runs, [&](TeamRun& run) { return run.begin_batch(batch); });
       ++batch) {
    for (uint64_t segment = 0;
         any_begins(runs, [&](TeamRun& run) { return run.begin_segment(segment); }); ++segment) {
      run_segment(runs);
    }
  }
  for (TeamRun* run : runs) run->end();
}

// The calls of each team, teams in order of their first call.
std::list<TeamRun> runs_of(std::span<const StreamCall> calls) {
  std::vector<std::vector<StreamCall>> teams;
  for (const StreamCall& call : calls) {
    const auto same = [&](const auto& team) { return team.front().team == call.team; };
    const auto found = std::ranges::find_if(teams, same);
    if (found == teams.end()) {
      teams.push_back({call});
    } else {
      found->push_back(call);
    }
  }
  std::list<TeamRun> runs;
  for (const auto& team : teams) runs.emplace_back(team);
  return runs;
}

}  // namespace

void enqueue(std::span<const StreamCall> calls) {
  std::list<TeamRun> runs = runs_of(calls);
  std::vector<Together> turns;
  std::map<int, size_t> turn_of_device;
  for (TeamRun& run : runs) {
    const size_t turn = turn_of_device[run.team().device()]++;
    if (turn == turns.size()) turns.emplace_back();
    turns[turn].push_back(&run);
  }
  for (const Together& runs_of_turn : turns) run_together(runs_of_turn);
}

}  // namespace slimccl::runtime
