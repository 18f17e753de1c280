// What a communicator's ranks have seen of each kind of call, and what follows from it once they
// have told each other. Nothing local decides a call: a rank's sightings count from the point on at
// which all ranks have all of them. Pure; whoever calls sees to threads.
//
// One table per communicator. For each of its collectives, in their order: pass() if the decision
// asks for no evidence or the call is exact for the moment, else next_call(), what its Duty asks
// for, and see().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/plausible.h"
#include "core/policy.h"

namespace slimccl::overlay {

enum class Reducing : uint8_t { kNothing, kSum, kAvg, kPreMulSum, kOther };

// A call as all ranks see it alike.
struct Tuple {
  Operation op = Operation::kBroadcast;  // of no elements: before the first call
  Reducing reducing = Reducing::kNothing;
  ncclDataType_t type = ncclInt8;
  uint64_t count = 0;  // 0 of what asks for no evidence

  bool operator==(const Tuple&) const = default;
};
[[nodiscard]] Tuple tuple_of(const Call& call);

// Calls of one kind are taken alike: what is called, and after what on this communicator.
struct Kind {
  Tuple now, before;

  bool operator==(const Kind&) const = default;
};
[[nodiscard]] std::string to_text(const Kind& kind);

// Of one kind: by one rank, or what all ranks may say of it together.
struct Sightings {
  bool in_place = true;      // always
  uint32_t plausible = 0;    // samples of its content
  uint32_t implausible = 0;  // likewise
};

// What is due at a call that asks for evidence, before it is seen: first the outcome of the last
// snapshot (waiting for it, if it is not there), then the next snapshot.
struct Duty {
  bool needs_outcome = false, takes_snapshot = false;

  bool operator==(const Duty&) const = default;
};
// Points of agreement are calls 64, 128, 256, ... 4096, and then every 4096th.
inline constexpr uint64_t kFirstPoint = 64;
[[nodiscard]] Duty duty_at(uint64_t number);

class EvidenceTable {
 public:
  // Kinds beyond these share the last place: they are never promoted, only demoted together.
  static constexpr size_t kMostKinds = 256;
  // A kind is promoted when every rank has seen so many plausible samples of it.
  static constexpr uint32_t kEnoughSamples = 3;

  struct Seen {
    size_t kind;          // for note()
    Evidence word;        // what holds for this call
    bool wants_a_sample;  // of its input; a local matter
  };
  struct Change {
    size_t kind;
    Evidence from, to;
  };

  explicit EvidenceTable(Profile profile) : profile_(profile) {}

  // Send and recv are not calls of all ranks: they do not come here. `ruled_gradients`: a rule says
  // that it carries gradients.
  void pass(const Call& call, bool ruled_gradients = false);
  [[nodiscard]] Duty next_call() { return duty_at(++calls_); }
  [[nodiscard]] Seen see(const Call& call, bool in_place);
  void note(size_t kind, Content content);
  // What to warn of, once: calls came of more kinds than there are places for. Else empty.
  [[nodiscard]] std::string overflow();

  [[nodiscard]] std::vector<std::byte> snapshot() const;
  // All ranks' snapshots of one point, by rank. Throws Error if they are not of the same calls.
  std::vector<Change> apply(std::span<const std::vector<std::byte>> by_rank);

  [[nodiscard]] size_t size() const { return kinds_.size(); }
  [[nodiscard]] const Kind& kind(size_t index) const { return kinds_[index]; }
  [[nodiscard]] Evidence word(size_t index) const { return words_[index]; }
  [[nodiscard]] std::string to_text(const Change& change) const;

 private:
  struct Hash {
    size_t operator()(const Kind& kind) const noexcept;
  };
  size_t index_of(const Kind& kind);
  void remember(const Tuple& call);

  const Profile profile_;
  uint64_t calls_ = 0;
  uint64_t history_ = 0;          // a hash of all collectives so far, in their order
  bool ruled_gradients_ = false;  // by a rule, reduce-scatters carry them
  bool told_of_overflow_ = false;
  Tuple before_;
  std::unordered_map<Kind, size_t, Hash> places_;
  // By place:
  std::vector<Kind> kinds_;
  std::vector<Sightings> own_;
  std::vector<uint64_t> seen_;
  std::vector<Evidence> words_;
};

// The words that follow from what all ranks said together; `gradients`: some reduce-scatters are
// known to carry them anyhow. Pure.
[[nodiscard]] std::vector<Evidence> conclude(Profile profile, std::span<const Kind> kinds,
                                             std::span<const Sightings> of_all, bool gradients);

}  // namespace slimccl::overlay
