// What is asked of a communicator: calls, and the groups in which they are carried out.
#pragma once

#include <memory>
#include <vector>

#include "runtime/completion.h"
#include "runtime/executor.h"
#include "runtime/transfers.h"

namespace slimccl::runtime {

// How a reduction is carried; nothing to say of other collectives.
struct HowReduced {
  collectives::Reduction reduction = collectives::Reduction::kSum;
  bool divides = false;  // see collectives::Shape
  collectives::Scaling scaling = collectives::Scaling::kNone;
  quant::Scalar scale{};
  const void* device_scalar = nullptr;  // read when the call runs, in place of `scale`
};

// One collective as the API hands it over: its arguments checked, but how it is carried not yet
// decided. A rank that has no part in a buffer (a broadcast's input off the root) leaves it null.
struct Call {
  collectives::Collective op;
  ncclDataType_t type;
  uint64_t count;
  const void* input;
  void* output;
  int root = 0;
  HowReduced how{};
};

// Where a collective waits for its buffers, and tells that it is done with them. A `ready` that
// fails is the communicator's failure.
struct Gate {
  std::shared_ptr<Completion> ready, done;
};

// One communicator's part of a group. Works of a communicator run one after the other, in the order
// they were submitted in.
struct Work {
  std::vector<Operation> collectives;              // one after the other
  std::vector<Transfer> transfers;                 // all at once, beside them
  std::vector<std::shared_ptr<Completion>> after;  // it begins when these are done
  std::shared_ptr<Completion> completion;          // it finishes one part of this
  std::shared_ptr<Completion> ready{};             // it begins when this is done; as a gate's
  std::vector<Gate> gates{};                       // one for each collective, or none
};

}  // namespace slimccl::runtime
