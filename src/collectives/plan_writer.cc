#include "collectives/plan_writer.h"

#include <algorithm>

#include "base/bytes.h"

namespace slimccl::collectives {
namespace {

uint32_t tag(Phase phase, int owner) {
  return static_cast<uint32_t>(phase) << kTagRankBits | static_cast<uint32_t>(owner);
}

}  // namespace

Operand PlanWriter::buffer(Region region, int owner, bool whole) const {
  const bool first = shape_.whole || !whole;
  const uint64_t slices = first ? 0 : static_cast<uint64_t>(owner);
  return {{region, slice_stride(shape_, ranks()) * slices * element_bytes_,
           elems_of(owner) * element_bytes_},
          Codec::kTensor};
}

Operand PlanWriter::scratch(Codec codec, uint64_t elems) {
  const uint64_t bytes = quant::encoded_bytes(codec, shape_.type, elems);
  const uint64_t offset = plan_.scratch_bytes;
  plan_.scratch_bytes += round_up(bytes, quant::kMessageAlign);
  return {{Region::kScratch, offset, bytes}, codec};
}

void PlanWriter::add_fold(Step step) {
  const Operand& first = step.from.front();
  const bool divides = step.finishes && shape_.divides && ranks() > 1;
  if (step.from.size() == 1 && !first.scaled && !divides && first.codec == step.to.codec) {
    if (first.slice == step.to.slice) return;
    step.kind = Kind::kCopy;
    step.saturate = step.finishes = false;
  }
  plan_.steps.push_back(std::move(step));
}

void PlanWriter::fold(int level, uint64_t elems, std::vector<Operand> from, const Operand& to,
                      bool saturate) {
  add_fold({.kind = Kind::kFold,
            .level = level,
            .elems = elems,
            .from = std::move(from),
            .to = to,
            .saturate = saturate});
}

void PlanWriter::finish(int level, uint64_t elems, std::vector<Operand> from, const Operand& to) {
  add_fold({.kind = Kind::kFold,
            .level = level,
            .elems = elems,
            .from = std::move(from),
            .to = to,
            .finishes = true});
}

void PlanWriter::send(int level, int peer, Phase phase, int owner, uint64_t elems,
                      const Operand& what) {
  plan_.steps.push_back({.kind = Kind::kSend,
                         .level = level,
                         .peer = peer,
                         .tag = tag(phase, owner),
                         .elems = elems,
                         .from = {what}});
}

void PlanWriter::recv(int level, int peer, Phase phase, int owner, uint64_t elems,
                      const Operand& into) {
  plan_.steps.push_back({.kind = Kind::kRecv,
                         .level = level,
                         .peer = peer,
                         .tag = tag(phase, owner),
                         .elems = elems,
                         .to = into});
}

Operand PlanWriter::first_element(Operand of) const {
  return {{of.slice.region, of.slice.offset, element_bytes_}, Codec::kTensor};
}

void PlanWriter::send_acknowledged(int level, int peer, Phase phase, uint64_t elems,
                                   const Operand& what) {
  send(level, peer, phase, shape_.root, elems, what);
  recv(level + 1, peer, Phase::kAck, shape_.root, 1, scratch(Codec::kTensor, 1));
}

void PlanWriter::recv_and_acknowledge(int level, int peer, Phase phase, uint64_t elems,
                                      const Operand& into) {
  recv(level, peer, phase, shape_.root, elems, into);
  send(level + 1, peer, Phase::kAck, shape_.root, 1, first_element(into));
}

Operand PlanWriter::summand(int level, uint64_t elems, Operand input) {
  if (shape_.scaling != Scaling::kPerRank) return input;
  input.scaled = true;
  const Operand prescaled = scratch(wide(), elems);
  fold(level, elems, {input}, prescaled);
  return prescaled;
}

Plan PlanWriter::take() {
  std::ranges::stable_sort(plan_.steps, {}, &Step::level);
  return std::move(plan_);
}

}  // namespace slimccl::collectives
