#include "support/simulate.h"

#include <cstring>
#include <map>
#include <tuple>

#include "collectives/run_fold.h"
#include "collectives/verify.h"

namespace slimccl::testing {
namespace {

using collectives::Alias;
using collectives::Collective;
using collectives::Kind;
using collectives::Links;
using collectives::Plan;
using collectives::Region;
using collectives::Shape;
using collectives::Slice;
using collectives::Step;

using Key = std::tuple<int, int, uint32_t>;

class Simulation {
 public:
  Simulation(const Shape& shape, std::span<const Plan> plans, std::span<const Links> links,
             std::span<RankMemory> ranks, Delivery delivery)
      : shape_(shape),
        plans_(plans),
        links_(links),
        ranks_(ranks),
        delivery_(delivery),
        done_(plans.size()) {
    for (size_t rank = 0; rank < plans.size(); ++rank) {
      done_[rank].resize(plans[rank].steps.size());
      left_ += plans[rank].steps.size();
    }
  }

  bool run(std::mt19937& random) {
    while (left_ > 0) {
      const auto ready = ready_steps();
      if (ready.empty()) return false;
      const auto [rank, step] = ready[random() % ready.size()];
      perform(rank, step);
    }
    return true;
  }

 private:
  using Place = std::pair<size_t, size_t>;  // rank, step

  [[nodiscard]] bool released(size_t rank, size_t step) const {
    for (const uint32_t before : links_[rank].after[step]) {
      if (!done_[rank][before]) return false;
    }
    return !done_[rank][step];
  }

  // What may run now. A rendezvous is listed by its receive.
  [[nodiscard]] std::vector<Place> ready_steps() {
    std::vector<Place> ready;
    waiting_sends_.clear();
    for (size_t rank = 0; rank < plans_.size(); ++rank) {
      for (size_t i = 0; i < plans_[rank].steps.size(); ++i) {
        const Step& step = plans_[rank].steps[i];
        if (!released(rank, i)) continue;
        const bool rendezvous_send = step.kind == Kind::kSend && delivery_ == Delivery::kRendezvous;
        if (rendezvous_send)
          waiting_sends_[{static_cast<int>(rank), step.peer, step.tag}] = {rank, i};
        if (step.kind != Kind::kRecv && !rendezvous_send) ready.emplace_back(rank, i);
      }
    }
    for (size_t rank = 0; rank < plans_.size(); ++rank) {
      for (size_t i = 0; i < plans_[rank].steps.size(); ++i) {
        const Step& step = plans_[rank].steps[i];
        if (step.kind != Kind::kRecv || !released(rank, i)) continue;
        const Key key{step.peer, static_cast<int>(rank), step.tag};
        if (mail_.contains(key) || waiting_sends_.contains(key)) ready.emplace_back(rank, i);
      }
    }
    return ready;
  }

  std::byte* at(size_t rank, const Slice& slice) {
    RankMemory& memory = ranks_[rank];
    if (slice.region == Region::kScratch) return memory.scratch.data() + slice.offset;
    const uint64_t base = slice.region == Region::kInput ? memory.input_at : memory.output_at;
    return memory.memory.data() + base + shape_.begin * quant::type_bytes(shape_.type) +
           slice.offset;
  }

  void finish(size_t rank, size_t step) {
    done_[rank][step] = true;
    --left_;
  }

  void perform(size_t rank, size_t index) {
    const Step& step = plans_[rank].steps[index];
    if (step.kind == Kind::kSend) {
      const Slice& slice = step.from.front().slice;
      mail_[{static_cast<int>(rank), step.peer, step.tag}].assign(at(rank, slice),
                                                                  at(rank, slice) + slice.bytes);
    } else if (step.kind == Kind::kRecv) {
      receive(rank, step);
    } else if (step.kind == Kind::kCopy) {
      std::memmove(at(rank, step.to.slice), at(rank, step.from.front().slice), step.to.slice.bytes);
    } else {
      fold(rank, step);
    }
    finish(rank, index);
  }

  void receive(size_t rank, const Step& step) {
    const Key key{step.peer, static_cast<int>(rank), step.tag};
    if (const auto mail = mail_.find(key); mail != mail_.end()) {
      std::memcpy(at(rank, step.to.slice), mail->second.data(), mail->second.size());
      mail_.erase(mail);
      return;
    }
    const auto [sender, index] = waiting_sends_.at(key);
    const Slice& slice = plans_[sender].steps[index].from.front().slice;
    std::memcpy(at(rank, step.to.slice), at(sender, slice), slice.bytes);
    finish(sender, index);
  }

  void fold(size_t rank, const Step& step) {
    folds_.run(
        step, shape_, static_cast<int>(plans_.size()), ranks_[rank].scale,
        [&](const Slice& slice) { return at(rank, slice); }, false);
  }

  const Shape& shape_;
  std::span<const Plan> plans_;
  std::span<const Links> links_;
  std::span<RankMemory> ranks_;
  Delivery delivery_;
  collectives::FoldRunner folds_{quant::best_kernels()};
  std::vector<std::vector<char>> done_;
  size_t left_ = 0;
  std::map<Key, std::vector<std::byte>> mail_;
  std::map<Key, Place> waiting_sends_;
};

}  // namespace

RankMemory place(const Shape& shape, int ranks, int rank, bool in_place) {
  const uint64_t input = collectives::input_bytes(shape, ranks);
  const uint64_t output = collectives::output_bytes(shape, ranks);
  RankMemory memory;
  if (!in_place) {
    memory.output_at = input;
    memory.memory.resize(input + output);
    return memory;
  }
  memory.memory.resize(std::max(input, output));
  const uint64_t slice = shape.count * quant::type_bytes(shape.type) * static_cast<uint64_t>(rank);
  if (shape.op == Collective::kAllGather) memory.input_at = slice;
  if (shape.op == Collective::kReduceScatter) memory.output_at = slice;
  return memory;
}

Alias alias_of(const Shape& shape, int rank, bool in_place) {
  if (!in_place) return Alias::none();
  const auto slice = static_cast<int64_t>(shape.count * quant::type_bytes(shape.type) *
                                          static_cast<uint64_t>(rank));
  if (shape.op == Collective::kAllGather) return Alias::at(-slice);
  return Alias::at(shape.op == Collective::kReduceScatter ? slice : 0);
}

bool simulate(const Shape& shape, std::span<const Plan> plans, std::span<const Links> links,
              std::span<RankMemory> ranks, Delivery delivery, std::mt19937& random) {
  for (size_t rank = 0; rank < plans.size(); ++rank) {
    ranks[rank].scratch.assign(plans[rank].scratch_bytes, std::byte{0xa5});
  }
  return Simulation(shape, plans, links, ranks, delivery).run(random);
}

}  // namespace slimccl::testing
