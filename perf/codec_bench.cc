// Measures every kernel row beside the ceiling of its bytes, memcpy and other people's quantizers.
// Driven by Google Benchmark: one benchmark is one comparison, one repetition one round of it, and
// its counters are each contender's seconds per call. tools/dev/codec_report.py reads the JSON.
// Arguments: Google Benchmark's, and --peers=FOLDER. One thread, on one core.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codecs/stage.h"

namespace slimccl::perf {
namespace {

// A comparison that is set up when its first round comes, and taken down when the next one's does.
class Comparison {
 public:
  Comparison(const Case& test, const Place& place, std::optional<std::vector<Peer>> peers)
      : test_(test), place_(place), peers_(std::move(peers)) {}

  [[nodiscard]] std::string label() const {
    return (peers_ ? "peers/" : place_.name + "/") + test_.label();
  }

  [[nodiscard]] int rounds() const { return place_.rounds; }

  void run(benchmark::State& state, std::unique_ptr<Stage>& stage,
           const Comparison*& staged) const {
    if (staged != this) {
      stage.reset();
      stage = peers_ ? std::make_unique<Stage>(test_, place_, *peers_)
                     : std::make_unique<Stage>(test_, place_);
      staged = this;
    }
    for (auto _ : state) {
      for (const Time& time : stage->round()) {
        state.counters[time.name] = time.seconds;
        if (time.name.starts_with("row_")) state.SetIterationTime(time.seconds);
      }
    }
    state.counters["tensor_bytes"] = static_cast<double>(test_.tensor_bytes(place_.elems));
    state.counters["written_bytes"] = static_cast<double>(test_.sink_bytes(place_.elems));
    state.counters["moved_bytes"] = static_cast<double>(test_.moved_bytes(place_.elems));
  }

 private:
  Case test_;
  Place place_;
  std::optional<std::vector<Peer>> peers_;
};

std::vector<Comparison> all_comparisons(const Peers& peers) {
  std::vector<Comparison> comparisons;
  for (const Place& place : {in_cache(), out_of_cache()}) {
    for (const Case& test : all_cases()) comparisons.emplace_back(test, place, std::nullopt);
  }
  if (peers.found.empty()) return comparisons;
  for (const Operation operation : {Operation::kEncode, Operation::kDecode}) {
    for (const quant::Codec codec : {quant::Codec::kQ8, quant::Codec::kQ4s}) {
      comparisons.emplace_back(Case{operation, codec, ncclFloat32, 1}, in_cache(), peers.found);
    }
  }
  return comparisons;
}

// A dot a comparison: the numbers are for the report.
class Progress : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    if (runs.empty() || runs[0].run_type != Run::RT_Iteration) return;
    std::putchar('.');
    std::fflush(stdout);
  }
  void Finalize() override { std::putchar('\n'); }
};

std::string take_folder(int& argc, char** argv) {
  constexpr std::string_view kFlag = "--peers=";
  std::string folder;
  int kept = 0;
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with(kFlag)) {
      folder = argument.substr(kFlag.size());
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  return folder;
}

bool writes_a_file(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]).starts_with("--benchmark_out=")) return true;
  }
  return false;
}

void describe(const Peers& peers, const std::string& folder, int core) {
  std::string rows;
  for (const quant::Kernels& row : quant::all_kernels()) {
    rows.append(rows.empty() ? "" : " ").append(row.name);
  }
  std::string missing;
  for (const std::string& each : peers.missing) missing.append(each).append("; ");
  if (folder.empty()) missing = "not asked for (./dev bench codecs installs them)";
  benchmark::AddCustomContext("rows", rows);
  benchmark::AddCustomContext("core", core >= 0 ? std::to_string(core) : "not pinned");
  benchmark::AddCustomContext("huge_pages", huge_pages_are_granted() ? "yes" : "no");
  benchmark::AddCustomContext("in_cache_elems", std::to_string(in_cache().elems));
  benchmark::AddCustomContext("out_of_cache_elems", std::to_string(out_of_cache().elems));
  benchmark::AddCustomContext("out_of_cache_bytes", std::to_string(out_of_cache().total_bytes));
  benchmark::AddCustomContext("missing_peers", missing);
}

int run_all(int argc, char** argv) {
  const std::string folder = take_folder(argc, argv);
  const bool quiet = writes_a_file(argc, argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const int core = pin_to_one_core();
  const Peers peers = folder.empty() ? Peers{} : load_peers(folder, in_cache().elems);
  describe(peers, folder, core);
  const std::vector<Comparison> comparisons = all_comparisons(peers);
  std::unique_ptr<Stage> stage;
  const Comparison* staged = nullptr;
  for (const Comparison& each : comparisons) {
    benchmark::RegisterBenchmark(each.label().c_str(),
                                 [&](benchmark::State& state) { each.run(state, stage, staged); })
        ->UseManualTime()
        ->Iterations(1)
        ->Repetitions(each.rounds());
  }
  Progress progress;
  quiet ? benchmark::RunSpecifiedBenchmarks(&progress) : benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace
}  // namespace slimccl::perf

int main(int argc, char** argv) {
  try {
    return slimccl::perf::run_all(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "codec_bench: %s\n", error.what());
    return 3;
  }
}
