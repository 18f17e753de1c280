// Where one thread works: eight neighbouring elements of the superblock that its thread block does.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/cuda/batch.h"
#include "quant/layout.h"

namespace slimccl::quant::cuda {

inline constexpr uint32_t kElems = kSuperblock / kFoldThreads;  // of a thread
static_assert(kElems == 8, "the accesses and shuffles of the kernels are made for eight");

struct Place {
  uint64_t total;       // elements of the job
  uint32_t superblock;  // of the job, counted from 0
  uint32_t elems;       // of this superblock: fewer than kSuperblock in the last one only
  uint32_t first;       // of this thread in the superblock
  uint32_t count;       // of this thread's elements that exist: 0 to kElems
};

__device__ __forceinline__ Place place_of(const FoldJob& job) {
  Place place;
  place.total = job.elems;
  place.superblock = blockIdx.x - job.first_superblock;
  const uint64_t left = job.elems - uint64_t{place.superblock} * kSuperblock;
  place.elems = static_cast<uint32_t>(left < kSuperblock ? left : kSuperblock);
  place.first = threadIdx.x * kElems;
  const uint32_t rest = place.elems > place.first ? place.elems - place.first : 0;
  place.count = rest < kElems ? rest : kElems;
  return place;
}

// Where the record of this superblock lies in a message.
template <class Format>
__device__ __forceinline__ uint64_t record_offset(const Place& place) {
  return Format::head_bytes(place.total) + uint64_t{place.superblock} * Format::kRecordBytes;
}

// Where this thread's elements lie in a tensor with elements of `bytes` bytes.
__device__ __forceinline__ uint64_t plain_offset(const Place& place, uint32_t bytes) {
  return (uint64_t{place.superblock} * kSuperblock + place.first) * bytes;
}

}  // namespace slimccl::quant::cuda
