// The kernels' launches as C functions, for the Python tests: they fill a FoldBatch with the
// project's own struct, whose layout is thereby written down once, and fold one on the host with
// the reference row. Pointers in a batch are the machine's for the host, device addresses for a
// kernel.
#include <cstring>
#include <vector>

#include "quant/cuda/batch.h"
#include "quant/kernels.h"
#include "quant/layout.h"
#include "quant/reduce.h"

using namespace slimccl::quant;

namespace {

// All batches here are of fp16 tensors: Form::kFp16 is then the tensor's form, and each of the
// others has a codec of its own.
constexpr ncclDataType_t kType = ncclFloat16;
constexpr Codec kCodecs[] = {Codec::kFp32, Codec::kBf16, Codec::kTensor, Codec::kQ8, Codec::kQ4s};

Codec codec_of(uint32_t form) { return kCodecs[form]; }

constexpr ncclDataType_t kScaleTypes[] = {ncclFloat32, ncclBfloat16, ncclFloat16};  // by form

float scale_of(const FoldBatch& batch, const SourceRun& run) {
  if (!run.device_scaled) return run.scale;
  return read_scalar(batch.device_scale, kScaleTypes[static_cast<int>(batch.scale_form)]).f32;
}

}  // namespace

extern "C" {

uint64_t batch_bytes() { return sizeof(FoldBatch); }
uint32_t batch_threads() { return kFoldThreads; }
uint32_t form_count() { return sizeof(kFoldKernels) / sizeof(kFoldKernels[0]); }
const char* kernel_name(uint32_t form) { return kFoldKernels[form]; }
uint64_t form_bytes(uint32_t form, uint64_t elems) {
  return encoded_bytes(codec_of(form), kType, elems);
}

void batch_clear(FoldBatch* batch) { std::memset(batch, 0, sizeof(*batch)); }
uint32_t batch_superblocks(const FoldBatch* batch) { return batch->superblocks; }
void batch_set_device_scale(FoldBatch* batch, uint64_t address, uint32_t form) {
  batch->device_scale = reinterpret_cast<const void*>(address);
  batch->scale_form = static_cast<Form>(form);
}

// The runs of a job follow it: add_job, add_run, add_run, add_job ... False: no room.
bool batch_add_job(FoldBatch* batch, uint64_t sink, uint64_t elems, uint32_t saturate) {
  if (batch->job_count == kMaxJobs) return false;
  FoldJob& job = batch->jobs[batch->job_count];
  if (batch->job_count > 0) {
    const FoldJob& before = batch->jobs[batch->job_count - 1];
    job.first_run = static_cast<uint16_t>(before.first_run + before.runs);
  }
  job.sink = reinterpret_cast<void*>(sink);
  job.elems = elems;
  job.saturate = saturate;
  job.first_superblock = batch->superblocks;
  batch->superblocks += static_cast<uint32_t>(superblocks(elems));
  ++batch->job_count;
  return true;
}

bool batch_add_run(FoldBatch* batch, uint64_t data, uint64_t stride_bytes, float scale,
                   bool device_scaled, uint32_t form, uint32_t count) {
  FoldJob& job = batch->jobs[batch->job_count - 1];
  const uint32_t place = uint32_t{job.first_run} + job.runs;
  if (place == kMaxRuns) return false;
  SourceRun& run = batch->runs[place];
  run.data = reinterpret_cast<const void*>(data);
  run.stride_bytes = stride_bytes;
  run.scale = scale;
  run.device_scaled = device_scaled;
  run.form = static_cast<Form>(form);
  run.count = static_cast<uint16_t>(count);
  ++job.runs;
  return true;
}

// Folds every job of the batch into a sink of `form`.
void batch_fold(const FoldBatch* batch, uint32_t form) {
  for (uint32_t j = 0; j < batch->job_count; ++j) {
    const FoldJob& job = batch->jobs[j];
    std::vector<Source> sources;
    for (uint32_t r = 0; r < job.runs; ++r) {
      const SourceRun& run = batch->runs[job.first_run + r];
      const auto* data = static_cast<const std::byte*>(run.data);
      for (uint32_t k = 0; k < run.count; ++k) {
        const Codec codec = codec_of(static_cast<uint32_t>(run.form));
        sources.push_back({data + k * run.stride_bytes, codec, scale_of(*batch, run)});
      }
    }
    const Sink sink{static_cast<std::byte*>(job.sink), codec_of(form), job.saturate != 0};
    all_kernels().front().fold(sources, sink, kType, job.elems);
  }
}

}  // extern "C"
