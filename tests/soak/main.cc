// soak --seconds N --seed S [--threads T] [--hang S] --folder F: one process of a random program,
// with T ranks as threads; tools/dev/launch.py starts the others. The program follows from the seed
// and the number of ranks; the time only says how much of it is run. Exit code 0 if all was right.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "soak/rounds.h"

namespace soak {
namespace {

int number_of(const char* variable, int standard) {
  const char* const text = getenv(variable);
  return text == nullptr ? standard : atoi(text);
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const char* const value = argv[i + 1];
    if (flag == "--seconds") {
      options.seconds = atof(value);
    } else if (flag == "--seed") {
      options.seed = strtoull(value, nullptr, 10);
    } else if (flag == "--threads") {
      options.threads = atoi(value);
    } else if (flag == "--hang") {
      options.hang_s = atof(value);
    } else if (flag == "--folder") {
      options.folder = value;
    } else {
      return false;
    }
  }
  options.process = number_of("RANK", 0);
  options.processes = number_of("WORLD_SIZE", 1);
  return argc % 2 == 1 && options.threads >= 1 && options.ranks() <= 8 && !options.folder.empty();
}

// Rank 0's clock says when it is over; all hear of it in the same round.
bool goes_on(Context& context, const Teams& teams, double seconds,
             std::chrono::steady_clock::time_point start) {
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  uint8_t more = passed.count() < seconds ? 1 : 0;
  context.note("asking rank 0 for more");
  context.expect_done(ncclBroadcast(&more, &more, 1, ncclUint8, 0, teams.world().comm, nullptr),
                      {});
  return more == 1;
}

void run_rank(Process& process, int thread) {
  Context context(process, thread);
  const auto start = std::chrono::steady_clock::now();
  Teams teams(context);
  uint64_t round = 0;
  {
    Rounds rounds(context, teams);
    while (goes_on(context, teams, process.options.seconds, start)) {
      Random random(mix(process.options.seed, round));
      teams.change(random);
      rounds.play(random, round++);
    }
  }
  teams.destroy_all();
  if (context.rank == 0) printf("%llu rounds\n", static_cast<unsigned long long>(round));
}

}  // namespace
}  // namespace soak

int main(int argc, char** argv) {
  soak::Options options;
  if (!soak::parse(argc, argv, options)) {
    fprintf(stderr, "usage: soak --folder F [--seconds N] [--seed S] [--threads T] [--hang S]\n");
    return 2;
  }
  soak::Process process(options);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < options.threads; ++thread)
    threads.emplace_back([&, thread] { soak::run_rank(process, thread); });
  for (std::thread& thread : threads) thread.join();
  return 0;
}
