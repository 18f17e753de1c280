#include "support/reference.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "quant/kernels.h"
#include "support/message.h"

namespace slimccl::testing {
namespace {

using collectives::Codecs;
using collectives::Collective;
using collectives::Reduction;
using collectives::Row;
using collectives::Shape;
using collectives::Topology;
using quant::Codec;

using Buffer = std::vector<std::byte>;

// Values under a codec.
struct Value {
  MessageBytes bytes;
  Codec codec;
};

// One slice of one call, and all that is needed to sum it.
class Sums {
 public:
  Sums(const Shape& shape, const Topology& topology, const std::vector<Buffer>& inputs,
       const std::vector<quant::Scalar>& scales, int owner)
      : shape_(shape), topology_(topology), inputs_(inputs), scales_(scales) {
    first_ = shape.whole ? 0
                         : collectives::slice_stride(shape, topology.ranks()) *
                               static_cast<uint64_t>(owner);
    elems_ = collectives::slice_elems(shape, topology.ranks(), owner);
  }

  // A rank's input, scaled, before any sum.
  [[nodiscard]] Value input(int rank) const {
    const auto index = static_cast<size_t>(rank);
    const std::byte* data = inputs_[index].data() + first_ * quant::type_bytes(shape_.type);
    const bool scaled = shape_.scaling != collectives::Scaling::kNone;
    const Codec codec = scaled ? quant::wide_codec(shape_.type) : Codec::kTensor;
    Value value = room(codec);
    const quant::ReduceSource source{data, Codec::kTensor, scaled};
    quant::reduce({&source, 1}, {value.bytes.data(), codec}, shape_.type, Reduction::kSum,
                  scales_[index], elems_);
    return value;
  }

  // All of them in the order given, into one value. `last`: it is the result of the call.
  [[nodiscard]] Value folded(const std::vector<Value>& values, Codec into, bool last,
                             bool saturate = false) const {
    Value value = room(into);
    if (shape_.reduction == Reduction::kSum && quant::is_float(shape_.type)) {
      std::vector<quant::Source> sources;
      for (const Value& each : values) sources.push_back({each.bytes.data(), each.codec, 1.0f});
      quant::all_kernels().front().fold(sources, {value.bytes.data(), into, saturate}, shape_.type,
                                        elems_);
    } else {
      std::vector<quant::ReduceSource> sources;
      for (const Value& each : values) sources.push_back({each.bytes.data(), each.codec, false});
      const uint64_t divisor =
          last && shape_.divides ? static_cast<uint64_t>(topology_.ranks()) : 1;
      quant::reduce(sources, {value.bytes.data(), into, divisor}, shape_.type, shape_.reduction, {},
                    elems_);
    }
    value.bytes.resize(quant::encoded_bytes(into, shape_.type, elems_));
    return value;
  }

  [[nodiscard]] std::vector<Value> inputs_of(const std::vector<int>& ranks) const {
    std::vector<Value> values;
    for (const int rank : ranks) values.push_back(input(rank));
    return values;
  }
  [[nodiscard]] std::vector<int> members(int node) const {
    const auto all = topology_.members(node);
    return {all.begin(), all.end()};
  }

  // Inside each node in ascending rank, then the nodes in ascending order; the owner's own node
  // unrounded.
  [[nodiscard]] Value two_level(int owner, Codec across, Codec into) const {
    if (topology_.nodes() == 1) return folded(inputs_of(members(0)), into, true);
    std::vector<Value> partials;
    for (int node = 0; node < topology_.nodes(); ++node) {
      const bool own = node == topology_.node_of(owner);
      const Codec codec = own ? quant::wide_codec(shape_.type) : across;
      partials.push_back(folded(inputs_of(members(node)), codec, false));
    }
    return folded(partials, into, true);
  }
  [[nodiscard]] Value direct() const {
    std::vector<int> all;
    for (int rank = 0; rank < topology_.ranks(); ++rank) all.push_back(rank);
    return folded(inputs_of(all), Codec::kTensor, true);
  }
  // From the owner's successor round to the owner, one addition a rank.
  [[nodiscard]] Value ring(int owner) const {
    std::vector<int> order;
    for (int node = 0; node < topology_.nodes(); ++node) {
      for (const int member : members(node)) order.push_back(member);
    }
    std::ranges::rotate(order, std::ranges::find(order, owner) + 1);
    std::vector<Value> values = inputs_of(order);
    Value sum = folded({values.front()}, Codec::kTensor, order.size() == 1);
    for (size_t i = 1; i < values.size(); ++i)
      sum = folded({sum, values[i]}, Codec::kTensor, i + 1 == values.size());
    return sum;
  }
  // From the last node of the chain to the root's; each adds its inputs to the partial that came.
  [[nodiscard]] Value chain(int root) const {
    const int nodes = topology_.nodes();
    std::vector<Value> sum;
    for (int place = nodes - 1; place >= 0; --place) {
      const int node = (topology_.node_of(root) + place) % nodes;
      for (Value& value : inputs_of(members(node))) sum.push_back(std::move(value));
      Value partial = folded(sum, Codec::kTensor, place == 0);
      sum.clear();
      sum.push_back(std::move(partial));
    }
    return sum.front();
  }
  [[nodiscard]] Value reduced(const Row& row, const Codecs& codecs, int owner, Codec into) const {
    if (row.name == "exact") return two_level(owner, Codec::kTensor, into);
    if (row.name == "two_hop") return two_level(owner, codecs.reduce, into);
    if (row.name == "direct") return direct();
    if (row.name == "ring") return ring(owner);
    if (row.name == "chain") return chain(owner);
    throw std::logic_error("the reference does not know row " + std::string(row.name));
  }

 private:
  [[nodiscard]] Value room(Codec codec) const {
    return {MessageBytes(quant::encoded_bytes(codec, shape_.type, elems_) + 64), codec};
  }

  const Shape& shape_;
  const Topology& topology_;
  const std::vector<Buffer>& inputs_;
  const std::vector<quant::Scalar>& scales_;
  uint64_t first_ = 0, elems_ = 0;
};

Buffer bytes_of(const Value& value) { return {value.bytes.begin(), value.bytes.end()}; }

}  // namespace

std::vector<std::byte> expected_output(const Row& row, const Shape& shape, const Topology& topology,
                                       const Codecs& given, const std::vector<Buffer>& inputs,
                                       const std::vector<quant::Scalar>& scales, int rank,
                                       bool in_place) {
  const Codecs codecs = row.lossy ? given : Codecs{};
  const bool gather = shape.op == Collective::kAllGather;
  const auto sums = [&](int owner) { return Sums(shape, topology, inputs, scales, owner); };
  if (shape.op == Collective::kBroadcast) return inputs[static_cast<size_t>(shape.root)];
  if (shape.op == Collective::kReduce) {
    if (rank != shape.root) return {};
    return bytes_of(sums(rank).reduced(row, codecs, rank, Codec::kTensor));
  }
  if (shape.op == Collective::kReduceScatter || shape.whole)
    return bytes_of(sums(rank).reduced(row, codecs, rank, Codec::kTensor));
  Buffer output;
  for (int owner = 0; owner < topology.ranks(); ++owner) {
    const Sums slice = sums(owner);
    const Buffer& input = inputs[static_cast<size_t>(owner)];
    const Value own{{input.begin(), input.end()}, Codec::kTensor};
    Value message = own;
    if (!gather) {
      message = slice.reduced(row, codecs, owner, codecs.gather);
    } else if (codecs.gather != Codec::kTensor && !(in_place && owner == rank)) {
      message = slice.folded({own}, codecs.gather, false);
    }
    if (message.codec != Codec::kTensor)
      message = slice.folded({message}, Codec::kTensor, false, gather);
    output.insert(output.end(), message.bytes.begin(), message.bytes.end());
  }
  output.resize((gather ? static_cast<uint64_t>(topology.ranks()) : 1) * shape.count *
                quant::type_bytes(shape.type));
  return output;
}

}  // namespace slimccl::testing
