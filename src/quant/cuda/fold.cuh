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

// The sum in fp32. It begins as -0, which is what adds nothing: -0 + x is x, for x = -0 too; and
// x * 1 is x. Both may lose the payload of a NaN, which no sink keeps.
__device__ __forceinline__ void sum_of(const FoldBatch& batch, const FoldJob& job,
                                       const Place& place, float (&sums)[kElems]) {
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) sums[i] = -0.0f;
  for (uint32_t r = 0; r < job.runs && place.count > 0; ++r) {
    const SourceRun& run = batch.runs[job.first_run + r];
    const auto* data = static_cast<const std::byte*>(run.data);
    for (uint32_t k = 0; k < run.count; ++k, data += run.stride_bytes) {
      float elems[kElems];
      decode(run.form, data, place, elems);
#pragma unroll
      for (uint32_t i = 0; i < kElems; ++i) sums[i] = sums[i] + elems[i] * run.scale;
    }
  }
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) sums[i] = i < place.count ? sums[i] : 0.0f;
}

template <Form kTo>
__device__ __forceinline__ bool is_copy(const FoldBatch& batch, const FoldJob& job) {
  const SourceRun& run = batch.runs[job.first_run];
  return is_plain(kTo) && job.runs == 1 && run.count == 1 && run.scale == 1.0f && run.form == kTo;
}

// Bit by bit, NaN payloads included.
template <Form kTo>
__device__ __forceinline__ void copy(const void* from, const Place& place, std::byte* sink) {
  const uint64_t offset = plain_offset(place, plain_bytes(kTo));
  const std::byte* data = static_cast<const std::byte*>(from) + offset;
  if constexpr (kTo == Form::kFp32) {
    uint32_t words[kElems];
    load_words(data, place.count, words);
    store_words(words, place.count, sink + offset);
  } else {
    uint16_t halves[kElems];
    load_halves(data, place.count, halves);
    store_halves(halves, place.count, sink + offset);
  }
}

template <Form kTo>
__device__ __forceinline__ void fold(const FoldBatch& batch) {
  const FoldJob& job = job_of(batch, blockIdx.x);
  const Place place = place_of(job);
  auto* sink = static_cast<std::byte*>(job.sink);
  if (is_copy<kTo>(batch, job)) return copy<kTo>(batch.runs[job.first_run].data, place, sink);

  float sums[kElems];
  sum_of(batch, job, place, sums);
  if constexpr (kTo == Form::kFp32) encode_fp32(sums, place, sink);
  if constexpr (kTo == Form::kBf16 || kTo == Form::kFp16) {
    encode_half<kTo>(sums, place, job.saturate != 0, sink);
  }
  if constexpr (kTo == Form::kQ8) encode_q8(sums, place, sink);
  if constexpr (kTo == Form::kQ4s) encode_q4s(sums, place, sink);
}

}  // namespace slimccl::quant::cuda
