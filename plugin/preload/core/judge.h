// What becomes of a call: by the policy, by what is so at this moment, and by what the ranks know
// of its kind.
#pragma once

#include "core/compressor.h"
#include "core/entry.h"

namespace slimccl::overlay {

struct Outcome {
  Reason reason = Reason::kNotAgreed;
  const collectives::Row* row = nullptr;  // kCompressed: how
  collectives::Codecs codecs{};
};

// Judges and counts the call; no lock that communicators share, no allocation for kinds of calls
// that were seen lately. At a point of agreement it may wait for the other ranks. Throws Error if
// they cannot be reached: nobody knows then whether this call is compressed elsewhere.
[[nodiscard]] Outcome judge(Entry& entry, const Policy& policy, const Call& call,
                            const Buffers& buffers);

}  // namespace slimccl::overlay
