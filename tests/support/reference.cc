#include "support/reference.h"

#include <algorithm>
#include <cstring>

#include "quant/kernels.h"
#include "support/message.h"

namespace slimccl::testing {
namespace {

using collectives::Codecs;
using collectives::Collective;
using collectives::Shape;
using collectives::Topology;
using quant::Codec;

using Buffer = std::vector<std::byte>;

MessageBytes encoded(const std::vector<quant::Source>& sources, Codec codec, ncclDataType_t type,
                     uint64_t elems, bool saturate = false) {
  MessageBytes buffer(quant::encoded_bytes(codec, type, elems) + 64);
  quant::all_kernels().front().fold(sources, {buffer.data(), codec, saturate}, type, elems);
  buffer.resize(quant::encoded_bytes(codec, type, elems));
  return buffer;
}

struct Slot {
  uint64_t first, elems;
};

Slot slot_of(Shape shape, int ranks, int owner) {
  shape.begin = 0;
  shape.elems = UINT64_MAX;
  return {collectives::slice_stride(shape, ranks) * static_cast<uint64_t>(owner),
          collectives::slice_elems(shape, ranks, owner)};
}

// The partial of one node: inputs in ascending rank, each scaled, folded in fp32, left under
// `codec`.
MessageBytes partial(const Shape& shape, const Topology& topology, int node, Slot slot, Codec codec,
                     const std::vector<Buffer>& inputs, const std::vector<float>& scales) {
  std::vector<quant::Source> sources;
  for (const int member : topology.members(node)) {
    const auto rank = static_cast<size_t>(member);
    sources.push_back({inputs[rank].data() + slot.first * quant::type_bytes(shape.type),
                       Codec::kTensor, scales[rank]});
  }
  return encoded(sources, codec, shape.type, slot.elems);
}

// Segments cut messages, so a codec is applied segment by segment.
MessageBytes reduced(const Shape& shape, const Topology& topology, const Codecs& codecs, int owner,
                     Slot slot, Codec into, const std::vector<Buffer>& inputs,
                     const std::vector<float>& scales) {
  std::vector<MessageBytes> partials;
  std::vector<quant::Source> sources;
  for (int node = 0; node < topology.nodes(); ++node) {
    const Codec codec = node == topology.node_of(owner) ? Codec::kFp32 : codecs.reduce;
    partials.push_back(partial(shape, topology, node, slot, codec, inputs, scales));
    sources.push_back({partials.back().data(), codec, 1.0f});
  }
  return encoded(sources, into, shape.type, slot.elems);
}

}  // namespace

std::vector<std::byte> expected_output(const Shape& shape, const Topology& topology,
                                       const Codecs& codecs, const std::vector<Buffer>& inputs,
                                       const std::vector<float>& scales, int rank, bool in_place) {
  const int ranks = topology.ranks();
  const uint64_t element = quant::type_bytes(shape.type);
  if (shape.op == Collective::kReduceScatter) {
    const MessageBytes sum = reduced(shape, topology, codecs, rank, slot_of(shape, ranks, rank),
                                     Codec::kTensor, inputs, scales);
    return {sum.begin(), sum.end()};
  }
  const bool gather = shape.op == Collective::kAllGather;
  Buffer output;
  for (int owner = 0; owner < ranks; ++owner) {
    const Slot slot = slot_of(shape, ranks, owner);
    const Buffer& input = inputs[static_cast<size_t>(owner)];
    MessageBytes message =
        gather
            ? encoded({{input.data(), Codec::kTensor, 1.0f}}, codecs.gather, shape.type, slot.elems)
            : reduced(shape, topology, codecs, owner, slot, codecs.gather, inputs, scales);
    if (gather && in_place && owner == rank) {
      message.assign(input.begin(), input.end());
    } else if (codecs.gather != Codec::kTensor) {
      message = encoded({{message.data(), codecs.gather, 1.0f}}, Codec::kTensor, shape.type,
                        slot.elems, gather);
    }
    output.insert(output.end(), message.begin(), message.end());
  }
  output.resize((gather ? static_cast<uint64_t>(ranks) : 1) * shape.count * element);
  return output;
}

}  // namespace slimccl::testing
