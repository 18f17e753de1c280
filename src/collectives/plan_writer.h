// The words in which planners write one rank's plan: operands on the call's buffers and on scratch,
// and steps on them. Knows no algorithm.
#pragma once

#include <cstdint>
#include <vector>

#include "collectives/catalog.h"

namespace slimccl::collectives {

// Which part of an exchange a message belongs to; with the slice's owner it makes the tag.
enum class Phase : uint32_t { kSum, kPartial, kSpread, kRelay, kAck };
inline constexpr int kTagRankBits = 20, kTagBits = 23;

// How inputs travel to whoever sums them: as they are, or scaled first (and then unrounded) where
// only their rank knows its scale.
[[nodiscard]] inline Codec summand_codec(const Shape& shape) {
  return shape.scaling == Scaling::kPerRank ? quant::wide_codec(shape.type) : Codec::kTensor;
}

// One rank that has its own input already.
[[nodiscard]] inline bool nothing_to_do(const Shape& shape, const Topology& topology,
                                        bool in_place) {
  return topology.ranks() == 1 && in_place && shape.scaling == Scaling::kNone;
}

class PlanWriter {
 public:
  PlanWriter(const Shape& shape, const Topology& topology, int rank)
      : shape_(shape),
        topology_(topology),
        rank_(rank),
        element_bytes_(quant::type_bytes(shape.type)) {}

  // Slice `owner` of the caller's buffer. `whole`: the buffer holds every rank's slice, else only
  // this one.
  [[nodiscard]] Operand input(int owner, bool whole) const {
    return buffer(Region::kInput, owner, whole);
  }
  [[nodiscard]] Operand output(int owner, bool whole) const {
    return buffer(Region::kOutput, owner, whole);
  }
  // Room for one message of `elems` elements.
  Operand scratch(Codec codec, uint64_t elems);

  // One source that already looks like the sink is a copy; where it is the sink, no step at all.
  // `saturate` as in quant::Sink.
  void fold(int level, uint64_t elems, std::vector<Operand> from, const Operand& to,
            bool saturate = false);
  // The same for a finished sum.
  void finish(int level, uint64_t elems, std::vector<Operand> from, const Operand& to);
  void send(int level, int peer, Phase phase, int owner, uint64_t elems, const Operand& what);
  void recv(int level, int peer, Phase phase, int owner, uint64_t elems, const Operand& into);

  // Between two ranks that exchange nothing else: the sender hears when the receiver has it. The
  // answer is the message's first element, one level later.
  void send_acknowledged(int level, int peer, Phase phase, uint64_t elems, const Operand& what);
  void recv_and_acknowledge(int level, int peer, Phase phase, uint64_t elems, const Operand& into);

  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] const Topology& topology() const { return topology_; }
  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int ranks() const { return topology_.ranks(); }
  [[nodiscard]] int node() const { return topology_.node_of(rank_); }
  [[nodiscard]] uint64_t elems_of(int owner) const { return slice_elems(shape_, ranks(), owner); }
  [[nodiscard]] bool scaling() const { return shape_.scaling != Scaling::kNone; }
  [[nodiscard]] Codec wide() const { return quant::wide_codec(shape_.type); }
  [[nodiscard]] Codec summand_codec() const { return collectives::summand_codec(shape_); }
  // An input to be sent, scaled at `level` if that is this rank's to do...
  Operand summand(int level, uint64_t elems, Operand input);
  // ...and one that came, as a source of the sum.
  [[nodiscard]] Operand as_source(Operand received) const {
    received.scaled = shape_.scaling == Scaling::kUniform;
    return received;
  }
  // This rank's own input as a source of the sum.
  [[nodiscard]] Operand own_source(Operand input) const {
    input.scaled = scaling();
    return input;
  }

  // Program order is level order: what is said first is what everybody can do first.
  [[nodiscard]] Plan take();

 private:
  [[nodiscard]] Operand buffer(Region region, int owner, bool whole) const;
  [[nodiscard]] Operand first_element(Operand of) const;
  void add_fold(Step step);

  Shape shape_;
  const Topology& topology_;
  int rank_;
  uint64_t element_bytes_;
  Plan plan_;
};

}  // namespace slimccl::collectives
