// Does what a fold step says, once its slices have become memory. The one place where a plan meets
// arithmetic: executors and the tests' simulator call it.
#pragma once

#include <vector>

#include "collectives/plan.h"
#include "quant/kernels.h"

namespace slimccl::collectives {

class FoldRunner {
 public:
  explicit FoldRunner(const quant::Kernels& kernels) : kernels_(kernels) {}

  // at(slice) is where a slice lies. `scale` multiplies the operands that are scaled. `streaming`
  // as in quant::Sink.
  template <class At>
  void run(const Step& step, const Shape& shape, int ranks, const quant::Scalar& scale, At&& at,
           bool streaming) {
    const bool plain_sum = shape.reduction == Reduction::kSum && quant::is_float(shape.type);
    sources_.clear();
    summands_.clear();
    for (const Operand& source : step.from) {
      const std::byte* data = at(source.slice);
      if (plain_sum) {
        sources_.push_back({data, source.codec, source.scaled ? scale.f32 : 1.0f});
      } else {
        summands_.push_back({data, source.codec, source.scaled});
      }
    }
    std::byte* into = at(step.to.slice);
    if (plain_sum) {
      return kernels_.fold(sources_, {into, step.to.codec, step.saturate, streaming}, shape.type,
                           step.elems);
    }
    const uint64_t divisor = step.finishes && shape.divides ? static_cast<uint64_t>(ranks) : 1;
    quant::reduce(summands_, {into, step.to.codec, divisor}, shape.type, shape.reduction, scale,
                  step.elems);
  }

 private:
  const quant::Kernels& kernels_;
  std::vector<quant::Source> sources_;  // kept to save allocations, as is the next
  std::vector<quant::ReduceSource> summands_;
};

}  // namespace slimccl::collectives
