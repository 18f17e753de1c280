// What one launch of a CUDA fold kernel is told: plain data, passed by value as the kernel's only
// parameter. Several tensors fit in one launch. The kernels do what Kernels::fold does, with the
// same bits; there is one for each form of sink, named kFoldKernels[form].
#pragma once

#include <cstdint>

#include "quant/form.h"

namespace slimccl::quant {

// `count` sources of one kind, at data, data + stride_bytes, ...: the messages of all other nodes
// are one run, so the number of nodes has no limit. Device memory; messages are 64-byte aligned,
// plain elements element-aligned.
struct SourceRun {
  const void* data;
  uint64_t stride_bytes;
  float scale;  // applied after decoding; exactly 1 is skipped
  Form form;
  bool device_scaled;  // by the batch's scale in device memory instead
  uint16_t count;
};

// One fold: sources are folded in the order of their runs.
struct FoldJob {
  void* sink;
  uint64_t elems;
  uint32_t first_superblock;  // of the launch, that is of the grid: where this job's begin
  uint16_t first_run, runs;
  uint32_t saturate;  // as Sink::saturate
};

inline constexpr uint32_t kMaxJobs = 48;       // of a launch
inline constexpr uint32_t kMaxRuns = 96;       // of a launch
inline constexpr uint32_t kFoldThreads = 256;  // of a block, which does one superblock of one job

struct FoldBatch {
  FoldJob jobs[kMaxJobs];
  SourceRun runs[kMaxRuns];
  uint32_t job_count;
  uint32_t superblocks;      // of all jobs: the size of the grid
  const void* device_scale;  // one plain element, read when the kernel runs; or null
  Form scale_form;           // of that element
};
static_assert(sizeof(FoldBatch) <= 4096, "the limit of kernel parameters");

// By sink form. extern "C", so that they are found by name in the loaded fatbin.
inline constexpr const char* kFoldKernels[] = {"slimccl_fold_to_fp32", "slimccl_fold_to_bf16",
                                               "slimccl_fold_to_fp16", "slimccl_fold_to_q8",
                                               "slimccl_fold_to_q4s"};

}  // namespace slimccl::quant
