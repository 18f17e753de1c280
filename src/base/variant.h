// What one build of the library may do differently from another. The shipped ones are as variant.cc
// says; tests/vendor has the other, which stands in for the vendor's NCCL under an overlay.
#pragma once

namespace slimccl {

struct Variant {
  const char* settings_prefix;   // ahead of every variable that starts with SLIMCCL_
  bool sends_wait_for_receives;  // as NCCL's may, and ours, which go out at once, do not
  bool one_call_at_a_time;       // on each CUDA device, of all communicators
  bool in_call_order;  // these then: the host's order, else that in which their streams reach them
};

// A weak symbol: a build that has another one is that variant.
[[nodiscard]] const Variant& variant();

}  // namespace slimccl
