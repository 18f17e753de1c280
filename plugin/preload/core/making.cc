#include "core/making.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "base/log.h"
#include "core/check.h"
#include "core/id_tag.h"
#include "core/meet.h"
#include "runtime/mixed.h"
#include "runtime/serial.h"

namespace slimccl::overlay {
namespace {

using runtime::mixed;

// Does it now, or when the thread's group ends. Whatever goes wrong here is ours alone: the
// communicator works, exactly.
ncclResult_t now_or_later(ncclResult_t result, ThreadState::Making making) noexcept {
  const bool made = result == ncclSuccess || result == ncclInProgress;
  if (!made || State::instance().forked) return note(result);
  try {
    ThreadState& thread = ThreadState::current();
    if (thread.depth > 0) {
      thread.makings.push_back(std::move(making));
      return result;
    }
    const ncclResult_t ours = making(result == ncclInProgress);
    return ours == ncclSuccess ? result : ours;
  } catch (const std::exception& error) {
    log::warn("overlay: a communicator is exact: ", error.what());
    return result;
  }
}

// An entry that the ranks will meet for.
Entry& begin_joining(const slimccl_nccl* nccl, ncclComm_t comm, int rank, int ranks,
                     const Wishes& wishes) {
  Entry& entry = State::instance().begin(nccl, comm, rank, ranks, wishes.name);
  entry.joining = true;
  return entry;
}

ncclResult_t met_by_id(const slimccl_nccl* nccl, ncclComm_t* comm, int ranks, int rank,
                       const ncclUniqueId& id, const Wishes& wishes, bool in_progress) {
  if (*comm == nullptr) return ncclSuccess;
  Entry& entry = begin_joining(nccl, *comm, rank, ranks, wishes);
  if (in_progress || !wishes.blocking) {
    stay_exact(entry, Reason::kNonBlocking, "non-blocking communicators are exact", Warns::kNobody);
    return ncclSuccess;
  }
  std::optional<ncclUniqueId> place;
  try {
    place = tag_of(id);
  } catch (const Error& error) {
    stay_exact(entry, Reason::kVersion, error.what(), Warns::kEachProcess);
    return ncclSuccess;
  }
  if (place) return meet(entry, *place, comm);
  const bool wanted = State::instance().settings.id_tag;
  stay_exact(entry, Reason::kNoTag,
             wanted ? "the unique id has no tag of SlimCCL: is LD_PRELOAD set where it was made?"
                    : "SLIMCCL_ID_TAG is off",
             wanted ? Warns::kEachProcess : Warns::kNobody);
  return ncclSuccess;
}

// A family of the lowest member, and who this rank is among the members.
struct Place {
  std::optional<ncclUniqueId> id{};  // none: they do not meet, because of
  Reason standing = Reason::kNotAgreed;
  std::string why{};
  bool warns = false;
  int rank = 0, ranks = 0;
};

// entry.mutex is held. All ranks that take part compute the same number, as often as they meet for
// the same purpose.
uint64_t meeting(Entry& entry, uint64_t purpose) {
  return mixed(purpose, ++entry.meetings[purpose]);
}

// Why the children of a communicator whose ranks never met do not meet either.
Place as_parent(const Entry& parent) {
  Reason standing = parent.standing;
  if (standing == Reason::kCompressible || standing == Reason::kActivations) {
    standing = Reason::kNotAgreed;  // a child has a name of its own
  }
  return {.standing = standing, .why = concat("as its parent: ", text(standing))};
}

struct SplitWish {
  int32_t color, key;
};

// Who compresses needs the parent's connections afterwards, too: they are lost with the exchange.
double patience(const Entry& parent) {
  const Config& settings = State::instance().settings;
  return parent.evidence ? std::max(settings.agree_s, settings.setup_timeout_s) : settings.agree_s;
}

// All ranks of the parent do this, in no group of theirs together, if their children are to meet.
Place place_of_split(Entry& parent, int color, int key) {
  parent.background.wait();
  const std::lock_guard lock(parent.mutex);
  const uint64_t number = meeting(parent, runtime::kSplitSeed);
  Place place = as_parent(parent);
  if (!parent.star) return place;
  runtime::ByteWriter writer;
  writer.put(Exchange::kSplit).put(SplitWish{color, key});
  std::vector<std::vector<std::byte>> table;
  try {
    table = parent.star->all_gather(writer.finish(), patience(parent));
  } catch (const Error& error) {
    parent.star.reset();
    parent.checks = false;  // its calls go on, not compared any more
    place.warns = true;
    place.why = concat("its parent's ranks could not agree: ", error.what());
    return place;
  }
  std::vector<std::pair<int, int>> members;  // key, rank there
  for (size_t rank = 0; rank < table.size(); ++rank) {
    runtime::ByteReader reader(table[rank], "a rank's wish to split");
    check(reader.get<Exchange>() == Exchange::kSplit, ncclInvalidUsage, "rank ", rank,
          " does not call ncclCommSplit");
    const auto wish = reader.get<SplitWish>();
    if (wish.color != color) continue;
    members.emplace_back(wish.key, static_cast<int>(rank));
  }
  std::ranges::sort(members);
  const auto mine = std::ranges::find(members, parent.rank.load(), &std::pair<int, int>::second);
  place.rank = static_cast<int>(mine - members.begin());
  place.ranks = static_cast<int>(members.size());
  if (color < 0) return place;
  const auto& family = parent.families[static_cast<size_t>(members.front().second)];
  place.id = runtime::branch_of(family, mixed(number, static_cast<uint64_t>(color) + 1));
  return place;
}

Place place_of_shrink(Entry& parent, const std::vector<int>& excluded) {
  const std::lock_guard lock(parent.mutex);
  std::vector<int> survivors(static_cast<size_t>(std::max<int>(parent.ranks, 0)));
  std::iota(survivors.begin(), survivors.end(), 0);
  for (const int rank : excluded) std::erase(survivors, rank);
  Place place = as_parent(parent);
  place.ranks = static_cast<int>(survivors.size());
  place.rank =
      static_cast<int>(std::ranges::find(survivors, parent.rank.load()) - survivors.begin());
  uint64_t purpose = runtime::kShrinkSeed;
  for (const int rank : survivors) purpose = mixed(purpose, static_cast<uint64_t>(rank));
  const uint64_t number = meeting(parent, purpose);
  if (parent.families.empty() || place.rank == place.ranks) return place;
  place.id = runtime::branch_of(parent.families[static_cast<size_t>(survivors.front())], number);
  return place;
}

// The child, once its place is known.
ncclResult_t meet_at(const slimccl_nccl* nccl, ncclComm_t* child, const Place& place,
                     const Wishes& wishes, bool in_progress) {
  if (*child == nullptr) return ncclSuccess;
  int rank = place.rank, ranks = place.ranks;
  if (ranks == 0 && !in_progress) {
    if (nccl->CommUserRank != nullptr) (void)nccl->CommUserRank(*child, &rank);
    if (nccl->CommCount != nullptr) (void)nccl->CommCount(*child, &ranks);
  }
  Entry& entry = begin_joining(nccl, *child, rank, ranks, wishes);
  if (in_progress || !wishes.blocking) {
    stay_exact(entry, Reason::kNonBlocking, "non-blocking communicators are exact", Warns::kNobody);
  } else if (place.id) {
    return meet(entry, *place.id, child);
  } else {
    stay_exact(entry, place.standing, place.why, place.warns ? Warns::kRank0 : Warns::kNobody);
  }
  return ncclSuccess;
}

}  // namespace

Wishes wishes_of(const ncclConfig_t* config) noexcept {
  Wishes wishes;
  constexpr unsigned int kMagic = 0xcafebeef;
  constexpr unsigned int kNamesSince = NCCL_VERSION(2, 27, 0);  // commName lies elsewhere before
  // NCCL's own variable goes before what the program says.
  const char* forced = environment_variable("NCCL_COMM_BLOCKING");
  const std::string_view choice = forced == nullptr ? "" : forced;
  const bool overridden = choice == "0" || choice == "1";
  if (overridden) wishes.blocking = choice == "1";
  if (config == nullptr || config->magic != kMagic) return wishes;
  ncclConfig_t known = NCCL_CONFIG_INITIALIZER;
  std::memcpy(&known, config, std::min(config->size, sizeof known));
  if (!overridden) wishes.blocking = known.blocking != 0;
  try {
    if (known.version >= kNamesSince && known.commName != nullptr) wishes.name = known.commName;
  } catch (const std::exception&) {  // no memory for a name: then without
  }
  return wishes;
}

ncclResult_t after_init(const slimccl_nccl* nccl, ncclComm_t* comm, int ranks, int rank,
                        const ncclUniqueId& id, const Wishes& wishes,
                        ncclResult_t result) noexcept {
  return now_or_later(result, [=](bool in_progress) {
    return met_by_id(nccl, comm, ranks, rank, id, wishes, in_progress);
  });
}

ncclResult_t after_init_all(const slimccl_nccl* nccl, ncclComm_t* comms, int ranks,
                            ncclResult_t result) noexcept {
  return now_or_later(result, [=](bool) {
    for (int rank = 0; rank < ranks; ++rank) {
      Entry& entry = State::instance().begin(nccl, comms[rank], rank, ranks, "");
      stay_exact(entry, Reason::kOneNode, "all its ranks are in this process", Warns::kNobody);
    }
    return ncclSuccess;
  });
}

ncclResult_t after_split(const slimccl_nccl* nccl, ncclComm_t parent, int color, int key,
                         ncclComm_t* child, const Wishes& wishes, ncclResult_t result) noexcept {
  return now_or_later(result, [=](bool in_progress) {
    Entry& entry = State::instance().entry_of(nccl, parent);
    // Whoever does not want to wait does not wait for the others' wishes.
    const bool meets = wishes.blocking && !in_progress;
    const Place place = meets ? place_of_split(entry, color, key) : Place{};
    return meet_at(nccl, child, place, wishes, in_progress);
  });
}

ncclResult_t after_shrink(const slimccl_nccl* nccl, ncclComm_t parent, const int* excluded,
                          int count, ncclComm_t* child, const Wishes& wishes,
                          ncclResult_t result) noexcept {
  std::vector<int> list;
  if (excluded != nullptr && (result == ncclSuccess || result == ncclInProgress)) {
    list.assign(excluded, excluded + std::max(count, 0));
  }
  return now_or_later(result, [=](bool in_progress) {
    Entry& entry = State::instance().entry_of(nccl, parent);
    return meet_at(nccl, child, place_of_shrink(entry, list), wishes, in_progress);
  });
}

}  // namespace slimccl::overlay
