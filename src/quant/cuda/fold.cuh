// What one thread block does: fold one superblock of one job of the batch. Every step is what
// scalar.cc does, with the same arithmetic, so the bits are the same.
#pragma once

#include "quant/cuda/batch.h"
#include "quant/cuda/decode.cuh"
#include "quant/cuda/encode.cuh"
#include "quant/cuda/place.cuh"

namespace slimccl::quant::cuda {

__device__ __forceinline__ const FoldJob& job_of(const FoldBatch& batch, uint32_t superblock) {
  uint32_t low = 0, high = batch.job_count;  // low begins at or before it, high does not
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    if (batch.jobs[middle].first_superblock <= superblock) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return batch.jobs[low];
}

// What the sources of the run are multiplied by.
__device__ __forceinline__ float scale_of(const FoldBatch& batch, const SourceRun& run) {
  if (!run.device_scaled) return run.scale;
  if (batch.scale_form == Form::kFp32) return load<float>(batch.device_scale);
  const auto half = load<uint16_t>(batch.device_scale);
  return batch.scale_form == Form::kBf16 ? bf16_to_float(half) : fp16_to_float(half);
}

template <class Reader>
__device__ __forceinline__ void add_run(const SourceRun& run, const FoldJob& job, float scale,
                                        float (&sums)[kElems]) {
  const Place place = place_of(job);
  if (place.count == 0) return;
  Reader reader(static_cast<const std::byte*>(run.data), place);
  // Counted down: that takes a register less, and sm_100 has none to spare.
#pragma unroll 1
  for (uint32_t left = run.count; left > 0; --left) {
    reader.add_to(sums, scale);
    reader.step(run.stride_bytes);
  }
}

__device__ __forceinline__ void add_run(const FoldBatch& batch, const SourceRun& run,
                                        const FoldJob& job, float (&sums)[kElems]) {
  const float scale = scale_of(batch, run);
  switch (run.form) {
    case Form::kFp32:
      return add_run<Fp32Reader>(run, job, scale, sums);
    case Form::kBf16:
      return add_run<Bf16Reader>(run, job, scale, sums);
    case Form::kFp16:
      return add_run<Fp16Reader>(run, job, scale, sums);
    case Form::kQ8:
      return add_run<Q8Reader>(run, job, scale, sums);
    case Form::kQ4s:
      return add_run<Q4sReader>(run, job, scale, sums);
  }
}

// The sum in fp32. It begins as -0, which is what adds nothing: -0 + x is x, for x = -0 too; and
// x * 1 is x. Both may lose the payload of a NaN, which no sink keeps.
__device__ __forceinline__ void sum_of(const FoldBatch& batch, const FoldJob& job,
                                       float (&sums)[kElems]) {
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) sums[i] = -0.0f;
  const uint32_t first = job.first_run, end = first + job.runs;
#pragma unroll 1
  for (uint32_t r = first; r < end; ++r) add_run(batch, batch.runs[r], job, sums);
}

template <Form kTo>
__device__ __forceinline__ bool is_copy(const FoldBatch& batch, const FoldJob& job) {
  const SourceRun& run = batch.runs[job.first_run];
  return is_plain(kTo) && job.runs == 1 && run.count == 1 && run.form == kTo &&
         scale_of(batch, run) == 1.0f;
}

// Bit by bit, NaN payloads included.
template <Form kTo>
__device__ __forceinline__ void copy(const FoldBatch& batch, const FoldJob& job) {
  const Place place = place_of(job);
  const uint64_t offset = plain_offset(place, plain_bytes(kTo));
  const auto* data = static_cast<const std::byte*>(batch.runs[job.first_run].data) + offset;
  auto* sink = static_cast<std::byte*>(job.sink) + offset;
  if constexpr (kTo == Form::kFp32) {
    uint32_t words[kElems];
    load_words(data, place.count, words);
    store_words(words, place.count, sink);
  } else {
    uint32_t pairs[kPairs];
    load_pairs(data, place.count, pairs);
    store_pairs(pairs, place.count, sink);
  }
}

template <Form kTo>
__device__ __forceinline__ void fold(const FoldBatch& batch) {
  const FoldJob& job = job_of(batch, blockIdx.x);
  if (is_copy<kTo>(batch, job)) return copy<kTo>(batch, job);

  float sums[kElems];
  sum_of(batch, job, sums);
  const Place place = place_of(job);
  auto* sink = static_cast<std::byte*>(job.sink);
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) sums[i] = i < place.count ? sums[i] : 0.0f;
  if constexpr (kTo == Form::kFp32) encode_fp32(sums, place, sink);
  if constexpr (kTo == Form::kBf16 || kTo == Form::kFp16) {
    encode_half<kTo>(sums, place, job.saturate != 0, sink);
  }
  if constexpr (kTo == Form::kQ8) encode_q8(sums, place, sink);
  if constexpr (kTo == Form::kQ4s) encode_q4s(sums, place, sink);
}

}  // namespace slimccl::quant::cuda
