// What a call costs that the overlay leaves alone: ncclAllGather of a fake NCCL, bound to the
// preloaded file as any program's is, beside the same function called directly. One run, rounds in
// random order, medians. Run with LD_PRELOAD; exit code 1 when the difference is RED.
// Arguments: Google Benchmark's.
#include <benchmark/benchmark.h>
#include <dlfcn.h>

#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "slimccl/nccl.h"

namespace {

constexpr double kGateNs = 200;
constexpr const char* kDirect = "direct";
constexpr const char* kForwarded = "forwarded";

using AllGather = decltype(&ncclAllGather);

void call(benchmark::State& state, AllGather all_gather, ncclComm_t comm) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(all_gather(nullptr, nullptr, 1, ncclFloat, comm, nullptr));
  }
}

// Prints as usual, and remembers the medians.
class Medians : public benchmark::ConsoleReporter {
 public:
  Medians() : ConsoleReporter(OO_None) {}
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      // Processor time: a call sleeps nowhere, and this machine may have other things to do.
      if (run.aggregate_name == "median")
        ns_[run.run_name.function_name] = run.GetAdjustedCPUTime();
    }
    ConsoleReporter::ReportRuns(runs);
  }
  [[nodiscard]] double ns(const char* name) const { return ns_.at(name); }

 private:
  std::map<std::string, double> ns_;
};

int judge(const Medians& medians) {
  const double more = medians.ns(kForwarded) - medians.ns(kDirect);
  const bool good = more < kGateNs;
  std::printf("overlay: a forwarded call costs %.0f ns more than a direct one, at most %.0f: %s\n",
              more, kGateNs, good ? "ok" : "RED");
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  void* fake = dlopen("liboverlay_bench_nccl.so", RTLD_NOW | RTLD_NOLOAD);
  auto direct =
      fake == nullptr ? nullptr : reinterpret_cast<AllGather>(dlsym(fake, "ncclAllGather"));
  const AllGather bound = &ncclAllGather;
  if (direct == nullptr || direct == bound) {
    std::fprintf(stderr, "overlay_bench: run it with LD_PRELOAD=.../libslimccl-preload.so\n");
    return 2;
  }
  ncclUniqueId id{};
  ncclComm_t comm = nullptr;
  if (ncclGetUniqueId(&id) != ncclSuccess || ncclCommInitRank(&comm, 1, id, 0) != ncclSuccess) {
    std::fprintf(stderr, "overlay_bench: no communicator: %s\n", ncclGetLastError(nullptr));
    return 2;
  }
  std::vector<char*> arguments(argv, argv + argc);
  std::string defaults[] = {"--benchmark_repetitions=21", "--benchmark_min_time=0.02",
                            "--benchmark_enable_random_interleaving=true",
                            "--benchmark_report_aggregates_only=true"};
  for (std::string& flag : defaults) arguments.insert(arguments.begin() + 1, flag.data());
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  benchmark::RegisterBenchmark(kDirect, call, direct, comm);
  benchmark::RegisterBenchmark(kForwarded, call, bound, comm);
  Medians medians;
  benchmark::RunSpecifiedBenchmarks(&medians);
  return judge(medians);
}
