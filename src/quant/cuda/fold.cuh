// What one thread block does: fold one superblock of one job of the batch. Every step is what
// scalar.cc does, with the same arithmetic, so the bits are the same.
#pragma once

#include "quant/cuda/batch.h"
#include "quant/cuda/decode.cuh"
#include "quant/cuda/encode.cuh"
#include "quant/cuda/place.cuh"

namespace slimccl::quant::cuda {

__device__ __forceinline__ uint32_t job_at(const FoldBatch& batch, uint32_t superblock) {
  uint32_t low = 0, high = batch.job_count;  // low begins at or before it, high does not
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    if (batch.jobs[middle].first_superblock <= superblock) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// The same value, about which the compiler knows nothing: so it computes what follows from it anew
// instead of keeping it in registers, of which a thread has 32.
__device__ __forceinline__ uint32_t forgotten(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

template <class Reader>
__device__ __forceinline__ void add_run(const SourceRun& run, const FoldJob& job,
                                        float (&sums)[kElems]) {
  const Place place = place_of(job);
  if (place.count == 0) return;
  Reader reader(static_cast<const std::byte*>(run.data), place);
#pragma unroll 1
  for (uint32_t k = 0; k < run.count; ++k) {
    reader.add_to(sums, run.scale);
    reader.step(run.stride_bytes);
  }
}

// The sum in fp32. It begins as -0, which is what adds nothing: -0 + x is x, for x = -0 too; and
// x * 1 is x. Both may lose the payload of a NaN, which no sink keeps.
__device__ __forceinline__ void sum_of(const FoldBatch& batch, uint32_t index,
                                       float (&sums)[kElems]) {
#pragma unroll
  for (uint32_t i = 0; i < kElems; ++i) sums[i] = -0.0f;
  const uint32_t first = batch.jobs[index].first_run, end = first + batch.jobs[index].runs;
#pragma unroll 1
  for (uint32_t r = first; r < end; ++r) {
    const SourceRun& run = batch.runs[r];
    switch (run.form) {
      case Form::kFp32:
        add_run<Fp32Reader>(run, batch.jobs[forgotten(index)], sums);
        break;
      case Form::kBf16:
        add_run<Bf16Reader>(run, batch.jobs[forgotten(index)], sums);
        break;
      case Form::kFp16:
        add_run<Fp16Reader>(run, batch.jobs[forgotten(index)], sums);
        break;
      case Form::kQ8:
        add_run<Q8Reader>(run, batch.jobs[forgotten(index)], sums);
        break;
      case Form::kQ4s:
        add_run<Q4sReader>(run, batch.jobs[forgotten(index)], sums);
        break;
    }
  }
}

template <Form kTo>
__device__ __forceinline__ bool is_copy(const FoldBatch& batch, const FoldJob& job) {
  const SourceRun& run = batch.runs[job.first_run];
  return is_plain(kTo) && job.runs == 1 && run.count == 1 && run.scale == 1.0f && run.form == kTo;
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
  const uint32_t index = job_at(batch, blockIdx.x);
  if (is_copy<kTo>(batch, batch.jobs[index])) return copy<kTo>(batch, batch.jobs[index]);

  float sums[kElems];
  sum_of(batch, index, sums);
  const FoldJob& job = batch.jobs[forgotten(index)];
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
