#include "runtime/in_place.h"

#include "base/error.h"
#include "quant/codec.h"

namespace slimccl::runtime {

using collectives::Alias;
using collectives::Collective;

BufferLayout layout_of(const Call& call, int ranks, int rank) {
  const BufferLayout apart{Alias::none(), false};
  if (has_root(call.op) && rank != call.root) return apart;  // only one of the buffers is used
  const auto count = call.count * quant::type_bytes(call.type);
  const auto all = count * static_cast<uint64_t>(ranks);
  const uint64_t input_bytes = call.op == Collective::kReduceScatter ? all : count;
  const uint64_t output_bytes = call.op == Collective::kAllGather ? all : count;
  const auto input = reinterpret_cast<uintptr_t>(call.input),
             output = reinterpret_cast<uintptr_t>(call.output);
  if (count == 0 || input + input_bytes <= output || output + output_bytes <= input) return apart;
  const auto offset = static_cast<int64_t>(output - input);
  const auto slot = static_cast<int64_t>(count * static_cast<uint64_t>(rank));
  const int64_t expected = call.op == Collective::kAllGather       ? -slot
                           : call.op == Collective::kReduceScatter ? slot
                                                                   : 0;
  check(offset == expected, ncclInvalidArgument, name(call.op),
        ": sendbuff and recvbuff overlap, with recvbuff ", offset,
        " bytes after sendbuff; that works only for the in-place form, ", expected,
        " bytes on rank ", rank);
  return {Alias::at(offset), true};
}

}  // namespace slimccl::runtime
