#include "core/evidence.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "quant/codec.h"
#include "runtime/serial.h"

namespace slimccl::overlay {
namespace {

constexpr uint64_t kMostBetweenPoints = 4096;

std::string_view name(Reducing reducing) {
  constexpr std::string_view kNames[] = {"", ", sum", ", avg", ", PreMulSum", ", other"};
  return kNames[static_cast<size_t>(reducing)];
}

std::string text_of(const Tuple& tuple) {
  if (tuple == Tuple{}) return "nothing";
  const bool known = element_bytes(tuple.type) != 0;
  return concat(overlay::name(tuple.op), " of ",
                tuple.count > 0 ? concat(tuple.count, " x ") : "any number of ",
                known ? quant::type_name(tuple.type) : "an unknown type", name(tuple.reducing));
}

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
  return hash ^ hash >> 32;
}

uint64_t hash_of(uint64_t hash, const Tuple& tuple) {
  const auto small = static_cast<uint64_t>(tuple.op) << 16 |
                     static_cast<uint64_t>(tuple.reducing) << 8 | static_cast<uint64_t>(tuple.type);
  return mix(mix(hash, small), tuple.count);
}

uint64_t hash_of(std::span<const Kind> kinds) {
  uint64_t hash = kinds.size();
  for (const Kind& kind : kinds) hash = hash_of(hash_of(hash, kind.now), kind.before);
  return hash;
}

// Whether the arguments of such calls say that they carry what their class says.
bool is_gradient(const Kind& kind, const Sightings& sightings) {
  switch (kind.now.reducing) {
    case Reducing::kAvg:
      return true;
    case Reducing::kPreMulSum:
      return kind.now.op == Operation::kReduceScatter;
    case Reducing::kSum:  // of activations too, but those are not in place
      return kind.now.op == Operation::kReduceScatter && sightings.in_place;
    case Reducing::kNothing:
    case Reducing::kOther:
      break;
  }
  return false;
}

bool is_convincing(const Sightings& sightings) {
  return sightings.implausible == 0 && sightings.plausible >= EvidenceTable::kEnoughSamples;
}

// What all ranks say together: the least of what is for a kind, the most of what is against it.
void merge(Sightings& all, const Sightings& one) {
  all.in_place = all.in_place && one.in_place;
  all.plausible = std::min(all.plausible, one.plausible);
  all.implausible = std::max(all.implausible, one.implausible);
}

}  // namespace

Tuple tuple_of(const Call& call) {
  const bool reduces = call.op == Operation::kAllReduce || call.op == Operation::kReduceScatter ||
                       call.op == Operation::kReduce;
  Reducing reducing = Reducing::kNothing;
  if (reduces) {
    reducing = call.reduction == ncclSum      ? Reducing::kSum
               : call.reduction == ncclAvg    ? Reducing::kAvg
               : call.reduction >= ncclNumOps ? Reducing::kPreMulSum
                                              : Reducing::kOther;
  }
  return {call.op, reducing, call.type, call.count};
}

std::string to_text(const Kind& kind) {
  if (kind == Kind{}) return concat("all calls beyond ", EvidenceTable::kMostKinds - 1, " kinds");
  return concat(text_of(kind.now), " after ", text_of(kind.before));
}

Duty duty_at(uint64_t number) {
  const bool point =
      number >= kFirstPoint && (number <= kMostBetweenPoints ? std::has_single_bit(number)
                                                             : number % kMostBetweenPoints == 0);
  return {point && number > kFirstPoint, point};
}

size_t EvidenceTable::Hash::operator()(const Kind& kind) const noexcept {
  return hash_of(hash_of(0, kind.now), kind.before);
}

size_t EvidenceTable::index_of(const Kind& kind) {
  if (const auto found = places_.find(kind); found != places_.end()) return found->second;
  if (kinds_.size() == kMostKinds) return kMostKinds - 1;
  const size_t index = kinds_.size();
  kinds_.push_back(index == kMostKinds - 1 ? Kind{} : kind);
  own_.emplace_back();
  seen_.push_back(0);
  words_.push_back(Evidence::kNone);
  places_.emplace(kind, index);
  return index;
}

void EvidenceTable::remember(const Tuple& call) {
  history_ = hash_of(history_, call);
  before_ = call;
}

void EvidenceTable::pass(const Call& call, bool ruled_gradients) {
  remember(tuple_of(call));
  ruled_gradients_ = ruled_gradients_ || (ruled_gradients && call.op == Operation::kReduceScatter);
  before_.count = 0;  // it may depend on the batch: every step would bring new kinds
}

EvidenceTable::Seen EvidenceTable::see(const Call& call, bool in_place) {
  const Tuple now = tuple_of(call);
  const size_t index = index_of({now, before_});
  remember(now);
  own_[index].in_place = own_[index].in_place && in_place;
  // The first few, to know soon; later one now and then, for a kind may change what it carries.
  constexpr uint64_t kFirst = 8, kLater = 16;
  const uint64_t seen = ++seen_[index];
  const bool due = seen <= kFirst || seen % kLater == 0;
  return {index, words_[index], due && words_[index] != Evidence::kDemoted};  // that is for good
}

void EvidenceTable::note(size_t kind, Content content) {
  if (content == Content::kPlausible) ++own_[kind].plausible;
  if (content == Content::kImplausible) ++own_[kind].implausible;
}

std::string EvidenceTable::overflow() {
  if (kinds_.size() < kMostKinds || told_of_overflow_) return "";
  told_of_overflow_ = true;
  return concat("calls of more than ", kMostKinds - 1,
                " kinds: further ones are not compressed on evidence; say by SLIMCCL_RULES what "
                "they carry");
}

std::vector<std::byte> EvidenceTable::snapshot() const {
  runtime::ByteWriter writer;
  writer.put(history_).put(static_cast<uint8_t>(ruled_gradients_));
  writer.put(static_cast<uint64_t>(kinds_.size())).put(hash_of(kinds_));
  for (const Sightings& one : own_) {
    writer.put(static_cast<uint8_t>(one.in_place)).put(one.plausible).put(one.implausible);
  }
  return writer.finish();
}

std::vector<EvidenceTable::Change> EvidenceTable::apply(
    std::span<const std::vector<std::byte>> by_rank) {
  std::vector<Sightings> of_all;
  uint64_t history = 0;  // rank 0's
  bool gradients = true;
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    const std::string what = concat("rank ", rank, "'s evidence");
    runtime::ByteReader reader(by_rank[rank], what);
    const auto made = reader.get<uint64_t>();
    gradients = reader.get<uint8_t>() != 0 && gradients;
    const auto kinds = reader.get<uint64_t>(), digest = reader.get<uint64_t>();
    if (rank == 0) {
      history = made;
      of_all.assign(kinds, {.plausible = UINT32_MAX});
    }
    check(made == history && kinds == of_all.size(), ncclInvalidUsage, "rank ", rank,
          " has made other calls than rank 0, or in another order; SLIMCCL_CHECK=1 says which");
    const bool known = kinds <= kinds_.size();
    check(known && digest == hash_of(std::span(kinds_).first(kinds)), ncclInvalidUsage, "rank ",
          rank, " has made other calls than this one; SLIMCCL_CHECK=1 says which");
    for (Sightings& all : of_all) {
      Sightings one;
      one.in_place = reader.get<uint8_t>() != 0;
      one.plausible = reader.get<uint32_t>();
      one.implausible = reader.get<uint32_t>();
      merge(all, one);
    }
  }
  const auto words = conclude(profile_, std::span(kinds_).first(of_all.size()), of_all, gradients);
  std::vector<Change> changes;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] != words_[i]) changes.push_back({i, words_[i], words[i]});
    words_[i] = words[i];
  }
  return changes;
}

std::string EvidenceTable::to_text(const Change& change) const {
  std::string_view what = "is exact from here on: not always in place any more";
  if (change.to == Evidence::kPromoted) what = "is compressed from here on";
  if (change.to == Evidence::kDemoted) {
    what = "is exact from here on: what it carries does not look like weights or gradients";
  }
  return concat(overlay::to_text(kinds_[change.kind]), ": ", what);
}

std::vector<Evidence> conclude(Profile profile, std::span<const Kind> kinds,
                               std::span<const Sightings> of_all, bool gradients) {
  std::vector<Evidence> words(kinds.size(), Evidence::kNone);
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (of_all[i].implausible > 0) {
      words[i] = Evidence::kDemoted;
    } else if (profile == Profile::kAuto && is_convincing(of_all[i]) &&
               is_gradient(kinds[i], of_all[i])) {
      words[i] = Evidence::kPromoted;
      gradients = gradients || kinds[i].now.op == Operation::kReduceScatter;
    }
  }
  if (!gradients || profile != Profile::kAuto) return words;
  for (size_t i = 0; i < kinds.size(); ++i) {
    const bool gathers = kinds[i].now.op == Operation::kAllGather;
    if (gathers && of_all[i].in_place && is_convincing(of_all[i])) words[i] = Evidence::kPromoted;
  }
  return words;
}

}  // namespace slimccl::overlay
