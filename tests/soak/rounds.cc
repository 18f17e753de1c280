#include "soak/rounds.h"

#include <algorithm>
#include <thread>

#include "soak/chain.h"

namespace soak {
namespace {

constexpr size_t kStreams = 3;

}  // namespace

Rounds::Rounds(Context& context, Teams& teams)
    : context_(context), teams_(teams), streams_(kStreams) {
  for (cudaStream_t& stream : streams_) context.expect_done(slimcclStreamCreate(&stream), {});
}

Rounds::~Rounds() {
  for (cudaStream_t stream : streams_) (void)slimcclStreamDestroy(stream);
}

const Team& Rounds::pick(Random& random) const { return random.pick(teams_.all()); }

cudaStream_t Rounds::pick_stream(Random& random) const {
  return random.chance(30) ? nullptr : random.pick(streams_);
}

Rounds::Step Rounds::plan(Random& random, const Team& team, cudaStream_t stream,
                          const std::string& where) {
  Step step{&team, random_spec(random, team.size()), stream, nullptr, ""};
  const int place = team.place(context_.rank);
  if (place >= 0) step.part = std::make_unique<Part>(step.spec, place, team.size());
  step.text = where + ", " + team.text() + ": " + step.spec.text() +
              (step.stream == nullptr ? "" : ", on a stream");
  return step;
}

void Rounds::call_alone(Context& context, Step& step) {
  if (!step.part) return;
  context.note(step.text);
  const bool grouped = step.spec.needs_group();
  if (grouped) context.expect_done(ncclGroupStart(), {});
  ncclResult_t result = step.part->call(step.team->comm, step.stream);
  if (grouped) {
    context.expect_done(result, {step.team->comm});
    result = ncclGroupEnd();
  }
  context.expect_done(result, {step.team->comm});
}

void Rounds::synchronize(Context& context, cudaStream_t stream) {
  ncclResult_t result = ncclInProgress;
  if (context_.rank % 2 == 0) {
    while ((result = slimcclStreamQuery(stream)) == ncclInProgress) std::this_thread::yield();
  }
  if (result == ncclSuccess || result == ncclInProgress) result = slimcclStreamSynchronize(stream);
  context.expect_done(result, {});
}

void Rounds::verify(Context& context, const std::vector<Step>& steps) {
  for (cudaStream_t stream : streams_) synchronize(context, stream);
  for (const Step& step : steps) {
    if (!step.part) continue;
    const std::string difference = step.part->difference();
    if (difference.empty()) continue;
    context.note(step.text);
    context.fail("wrong: " + difference);
  }
}

// One after the other on one communicator, on any streams.
void Rounds::sequence(Random& random, const std::string& where) {
  const Team& team = pick(random);
  std::vector<Step> steps;
  for (int calls = 1 + random.below(6); calls > 0; --calls) {
    steps.push_back(plan(random, team, pick_stream(random), where));
    call_alone(context_, steps.back());
  }
  verify(context_, steps);
}

// Several communicators, and all kinds of calls, in one group; nested at random.
void Rounds::group(Random& random, const std::string& where) {
  const bool blocking = pick(random).blocking;
  std::vector<Step> steps;
  for (int turns = 1 + random.below(3); turns > 0; --turns) {
    const Team& team = pick(random);
    if (team.blocking != blocking) continue;
    for (int calls = 1 + random.below(4); calls > 0; --calls)
      steps.push_back(plan(random, team, pick_stream(random), where + ", grouped"));
  }
  random.shuffle(steps);
  std::vector<ncclComm_t> comms;
  context_.expect_done(ncclGroupStart(), {});
  for (Step& step : steps) {
    const bool nested = random.chance(30);
    if (!step.part) continue;
    context_.note(step.text);
    comms.push_back(step.team->comm);
    if (nested) context_.expect_done(ncclGroupStart(), {});
    context_.expect_done(step.part->call(step.team->comm, step.stream), comms);
    if (nested) context_.expect_done(ncclGroupEnd(), {});
  }
  context_.expect_done(ncclGroupEnd(), comms);
  verify(context_, steps);
}

// A thread for each of several communicators, all at the same time.
void Rounds::parallel(Random& random, const std::string& where) {
  std::vector<const Team*> teams;
  for (int turns = 2 + random.below(2); turns > 0; --turns) {
    const Team* const team = &pick(random);
    if (std::ranges::find(teams, team) == teams.end()) teams.push_back(team);
  }
  std::vector<std::vector<Step>> all;
  for (const Team* const team : teams) {
    auto& steps = all.emplace_back();
    // A stream of its own: on a shared one, the order would differ between ranks.
    const cudaStream_t own = streams_[all.size() - 1];
    for (int calls = 1 + random.below(5); calls > 0; --calls) {
      const cudaStream_t stream = random.chance(50) ? own : nullptr;
      steps.push_back(plan(random, *team, stream, where + ", beside others"));
    }
  }
  std::vector<std::thread> threads;
  for (auto& steps : all) {
    if (steps.front().part == nullptr) continue;
    threads.emplace_back([this, &steps] {
      Context context(context_.process, context_.thread);
      for (Step& step : steps) call_alone(context, step);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& steps : all) verify(context_, steps);
}

void Rounds::play(Random& random, uint64_t round) {
  const std::string where = "round " + std::to_string(round);
  for (int batches = 3 + random.below(6); batches > 0; --batches) {
    const int dice = random.below(100);
    if (dice < 35) {
      sequence(random, where);
    } else if (dice < 60) {
      group(random, where);
    } else if (dice < 75) {
      parallel(random, where);
    } else {
      chain(context_, teams_, streams_, random, where + ", chained");
    }
  }
}

}  // namespace soak
