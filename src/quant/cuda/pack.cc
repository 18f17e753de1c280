#include "quant/cuda/pack.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace slimccl::quant {
namespace {

constexpr uint64_t kMaxGrid = 0x7fffffff;  // thread blocks of a launch: CUDA's limit

uint64_t alignment_of(Form form) { return is_plain(form) ? plain_bytes(form) : kMessageAlign; }

void need_alignment(const char* what, const void* data, Form form) {
  ensure(reinterpret_cast<uintptr_t>(data) % alignment_of(form) == 0, what, " of a CUDA fold at ",
         data, ", which is not a multiple of ", alignment_of(form), " bytes");
}

// Whether `run` can take one more source: it may choose its stride with the second one.
bool continues(const SourceRun& run, const SourceRun& next) {
  if (run.form != next.form || bits_of(run.scale) != bits_of(next.scale)) return false;
  if (run.count == std::numeric_limits<uint16_t>::max()) return false;
  const auto first = reinterpret_cast<uintptr_t>(run.data);
  const auto data = reinterpret_cast<uintptr_t>(next.data);
  if (data < first) return false;
  return run.count == 1 || data - first == run.count * run.stride_bytes;
}

bool fits(const FoldBatch& batch, uint64_t used_runs, uint64_t runs, uint64_t blocks) {
  return batch.job_count < kMaxJobs && used_runs + runs <= kMaxRuns &&
         batch.superblocks + blocks <= kMaxGrid;
}

uint64_t used_runs(const FoldBatch& batch) {
  if (batch.job_count == 0) return 0;
  const FoldJob& last = batch.jobs[batch.job_count - 1];
  return last.first_run + last.runs;
}

// A launch with room for the fold, made if there is none.
FoldBatch& room_for(std::vector<Launch>& launches, Form to, uint64_t runs, uint64_t blocks) {
  for (Launch& launch : launches) {
    if (launch.to == to && fits(launch.batch, used_runs(launch.batch), runs, blocks)) {
      return launch.batch;
    }
  }
  launches.push_back({to, {}});
  return launches.back().batch;
}

void add(FoldBatch& batch, const Fold& fold, const std::vector<SourceRun>& runs) {
  const uint64_t first_run = used_runs(batch);
  std::copy(runs.begin(), runs.end(), batch.runs + first_run);
  batch.jobs[batch.job_count++] = {.sink = fold.sink.data,
                                   .elems = fold.elems,
                                   .first_superblock = batch.superblocks,
                                   .first_run = static_cast<uint16_t>(first_run),
                                   .runs = static_cast<uint16_t>(runs.size()),
                                   .saturate = fold.sink.saturate};
  batch.superblocks += static_cast<uint32_t>(superblocks(fold.elems));
}

}  // namespace

std::vector<SourceRun> merged(std::span<const Source> sources, ncclDataType_t type) {
  std::vector<SourceRun> runs;
  for (const Source& source : sources) {
    const SourceRun next = {.data = source.data,
                            .stride_bytes = 0,
                            .scale = source.scale,
                            .form = form_of(source.codec, type),
                            .unused = 0,
                            .count = 1};
    need_alignment("a source", next.data, next.form);
    if (runs.empty() || !continues(runs.back(), next)) {
      runs.push_back(next);
      continue;
    }
    SourceRun& run = runs.back();
    if (run.count == 1) {
      run.stride_bytes =
          reinterpret_cast<uintptr_t>(next.data) - reinterpret_cast<uintptr_t>(run.data);
    }
    ++run.count;
  }
  return runs;
}

std::vector<Launch> packed(std::span<const Fold> folds) {
  std::vector<Launch> launches;
  for (const Fold& fold : folds) {
    ensure(!fold.sources.empty(), "CUDA fold without sources");
    ensure(is_float(fold.type), "CUDA fold of ", type_name(fold.type), " elements");
    if (fold.elems == 0) continue;
    const Form to = form_of(fold.sink.codec, fold.type);
    need_alignment("the sink", fold.sink.data, to);
    const std::vector<SourceRun> runs = merged(fold.sources, fold.type);
    check(runs.size() <= kMaxRuns, ncclInternalError, "a CUDA fold of ", fold.sources.size(),
          " sources that lie in ", runs.size(), " runs; a launch takes ", kMaxRuns,
          ": put messages at equal distances into one buffer, or fold in several steps");
    const uint64_t blocks = superblocks(fold.elems);
    check(blocks <= kMaxGrid, ncclInvalidArgument, "a CUDA fold of ", fold.elems,
          " elements; a launch takes ", kMaxGrid * kSuperblock, ": cut the tensor");
    add(room_for(launches, to, runs.size(), blocks), fold, runs);
  }
  return launches;
}

}  // namespace slimccl::quant
