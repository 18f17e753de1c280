#include "cuda/emulated/rows.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <vector>

#include "base/error.h"
#include "cuda/emulated/memory.h"
#include "cuda/emulated/settings.h"
#include "quant/half.h"
#include "quant/kernels.h"

namespace slimccl::emulated {
namespace {

using quant::Codec;
using quant::Form;

// The rows know one tensor type a fold, a batch has forms only. Of fp16 tensors every form has a
// codec, so this type does for whatever a batch mixes: it means nothing but kTensor.
constexpr ncclDataType_t kType = ncclFloat16;

Codec codec_of(Form form) {
  switch (form) {
    case Form::kFp32:
      return Codec::kFp32;
    case Form::kBf16:
      return Codec::kBf16;
    case Form::kFp16:
      return Codec::kTensor;
    case Form::kQ8:
      return Codec::kQ8;
    case Form::kQ4s:
      return Codec::kQ4s;
  }
  fault(concat("form ", static_cast<int>(form), " in the batch of a kernel"));
}

class Launch {
 public:
  Launch(int device, const std::string& kernel, const quant::FoldBatch& batch)
      : device_(device), kernel_(kernel), batch_(batch), to_(sink_form(kernel)) {}

  void run() {
    check_batch();
    for (job_ = 0; job_ < batch_.job_count; ++job_) run(batch_.jobs[job_]);
  }

 private:
  static Form sink_form(const std::string& kernel) {
    const auto& names = quant::kFoldKernels;
    return static_cast<Form>(std::find(std::begin(names), std::end(names), kernel) - names);
  }

  [[noreturn]] void fail(const std::string& what) const {
    fault(concat("kernel ", kernel_, " by host rows, job ", job_, ": ", what));
  }

  // The kernel finds the job of a block by where the jobs begin: they fill the grid in their order.
  void check_batch() {
    if (batch_.job_count > quant::kMaxJobs) {
      fail(concat("the batch says that it has ", batch_.job_count, " jobs"));
    }
    uint64_t blocks = 0;
    for (job_ = 0; job_ < batch_.job_count; ++job_) {
      const quant::FoldJob& job = batch_.jobs[job_];
      if (job.first_superblock != blocks) fail("its blocks do not begin where the last job's end");
      if (job.runs == 0 || uint32_t{job.first_run} + job.runs > quant::kMaxRuns) {
        fail(concat("it has ", job.runs, " runs of sources from run ", job.first_run, " on"));
      }
      blocks += quant::superblocks(job.elems);
    }
    if (blocks != batch_.superblocks) {
      fail(concat("all jobs have ", blocks, " blocks, the grid has ", batch_.superblocks));
    }
  }

  // Where an operand really is.
  std::byte* reach(const void* data, Form form, uint64_t elems, bool write) const {
    const auto address = reinterpret_cast<uint64_t>(data);
    const uint64_t unit = is_plain(form) ? quant::plain_bytes(form) : quant::kMessageAlign;
    if (address % unit != 0) {
      fail(concat("the operand at ", data, " is not aligned to ", unit, " bytes"));
    }
    const uint64_t bytes = quant::encoded_bytes(codec_of(form), kType, elems);
    std::byte* found = memory().reach(device_, address, bytes);
    if (found == nullptr) fail(memory().refusal(device_, address, bytes, write));
    return found;
  }

  // What the sources of the run are multiplied by.
  [[nodiscard]] float scale_of(const quant::SourceRun& run) const {
    if (!run.device_scaled) return run.scale;
    const std::byte* element = reach(batch_.device_scale, batch_.scale_form, 1, /*write=*/false);
    if (batch_.scale_form == Form::kFp32) return load<float>(element);
    const auto half = load<uint16_t>(element);
    return batch_.scale_form == Form::kBf16 ? quant::bf16_to_float(half)
                                            : quant::fp16_to_float(half);
  }

  template <class T>
  static T load(const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof(T));
    return value;
  }

  void run(const quant::FoldJob& job) const {
    std::vector<quant::Source> sources;
    for (uint32_t r = job.first_run; r < uint32_t{job.first_run} + job.runs; ++r) {
      const quant::SourceRun& run = batch_.runs[r];
      const float scale = scale_of(run);
      const auto* data = static_cast<const std::byte*>(run.data);
      for (uint32_t k = 0; k < run.count; ++k, data += run.stride_bytes) {
        sources.push_back(
            {reach(data, run.form, job.elems, /*write=*/false), codec_of(run.form), scale});
      }
    }
    const quant::Sink sink = {reach(job.sink, to_, job.elems, /*write=*/true), codec_of(to_),
                              job.saturate != 0};
    quant::best_kernels().fold(sources, sink, kType, job.elems);
  }

  int device_;
  const std::string& kernel_;
  const quant::FoldBatch& batch_;
  Form to_;
  uint32_t job_ = 0;  // that is done or checked now
};

}  // namespace

void run_rows_on(int device, const std::string& kernel, const quant::FoldBatch& batch) {
  Launch(device, kernel, batch).run();
}

}  // namespace slimccl::emulated
