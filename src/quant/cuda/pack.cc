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
  if (run.device_scaled != next.device_scaled) return false;
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

// A launch of that sink and scale with room for the fold, made if there is none.
FoldBatch& room_for(std::vector<Launch>& launches, const Fold& fold, uint64_t runs,
                    uint64_t blocks) {
  const Form to = form_of(fold.sink.codec, fold.type);
  const Form scale_form = form_of(Codec::kTensor, fold.type);
  for (Launch& launch : launches) {
    const FoldBatch& batch = launch.batch;
    const bool same_scale = batch.device_scale == fold.device_scale &&
                            (fold.device_scale == nullptr || batch.scale_form == scale_form);
    if (launch.to == to && same_scale && fits(batch, used_runs(batch), runs, blocks)) {
      return launch.batch;
    }
  }
  FoldBatch& batch = launches.emplace_back(Launch{to, {}}).batch;
  batch.device_scale = fold.device_scale;
  batch.scale_form = scale_form;
  return batch;
}

void check_device_scale(const Fold& fold) {
  const auto& flags = fold.device_scaled;
  ensure(flags.empty() || flags.size() == fold.sources.size(), "a CUDA fold of ",
         fold.sources.size(), " sources with ", flags.size(),
         " flags that say which of them are scaled from device memory");
  if (fold.device_scale != nullptr) {
    need_alignment("the scale", fold.device_scale, form_of(Codec::kTensor, fold.type));
  } else {
    ensure(std::ranges::find(flags, true) == flags.end(),
           "a CUDA fold with sources that are scaled from device memory, and no address of it");
  }
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

std::vector<SourceRun> merged(std::span<const Source> sources, ncclDataType_t type,
                              std::span<const bool> device_scaled) {
  std::vector<SourceRun> runs;
  for (size_t i = 0; i < sources.size(); ++i) {
    const bool by_device = !device_scaled.empty() && device_scaled[i];
    const SourceRun next = {.data = sources[i].data,
                            .stride_bytes = 0,
                            .scale = by_device ? 1 : sources[i].scale,
                            .form = form_of(sources[i].codec, type),
                            .device_scaled = by_device,
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
    need_alignment("the sink", fold.sink.data, form_of(fold.sink.codec, fold.type));
    check_device_scale(fold);
    const std::vector<SourceRun> runs = merged(fold.sources, fold.type, fold.device_scaled);
    check(runs.size() <= kMaxRuns, ncclInternalError, "a CUDA fold of ", fold.sources.size(),
          " sources that lie in ", runs.size(), " runs; a launch takes ", kMaxRuns,
          ": put messages at equal distances into one buffer, or fold in several steps");
    const uint64_t blocks = superblocks(fold.elems);
    check(blocks <= kMaxGrid, ncclInvalidArgument, "a CUDA fold of ", fold.elems,
          " elements; a launch takes ", kMaxGrid * kSuperblock, ": cut the tensor");
    add(room_for(launches, fold, runs.size(), blocks), fold, runs);
  }
  return launches;
}

}  // namespace slimccl::quant
