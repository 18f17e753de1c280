#include "core/policy.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "collectives/catalog.h"
#include "collectives/select.h"
#include "quant/codec.h"

namespace slimccl::overlay {
namespace {

constexpr std::string_view kProfiles[] = {"exact", "audit", "auto", "zeropp"};

// Sums, however they are scaled: ncclSum, ncclAvg and what ncclRedOpCreatePreMulSum makes.
bool is_sum(ncclRedOp_t reduction) {
  return reduction != ncclProd && reduction != ncclMax && reduction != ncclMin;
}

bool may_compress(Operation op) {
  return op == Operation::kAllGather || op == Operation::kReduceScatter ||
         op == Operation::kAllReduce;
}

// Why a call is exact by its own arguments and its communicator's state; kCompressible: it is not.
Reason objection(const Call& call, const Policy& policy, const Facts& facts) {
  if (policy.profile == Profile::kExact) return Reason::kProfile;
  if (facts.standing != Reason::kCompressible) return facts.standing;
  if (call.op == Operation::kSend || call.op == Operation::kRecv) return Reason::kPointToPoint;
  if (!may_compress(call.op)) return Reason::kOperation;
  if (!quant::is_float(call.type)) return Reason::kType;
  if (call.op != Operation::kAllGather && !is_sum(call.reduction)) return Reason::kReduction;
  if (call.count == 0) return Reason::kEmpty;
  if (elems_per_rank(call, facts.ranks) < policy.floor_elems) return Reason::kFloor;
  if (facts.windowed) return Reason::kWindow;
  if (facts.capturing) return Reason::kCapture;
  if (facts.paused) return Reason::kPaused;
  return Reason::kCompressible;
}

collectives::Shape shape_of(const Call& call) {
  return {.op = collective_of(call.op), .type = call.type, .count = call.count};
}

// By the cost model. The real NCCL's exact call is taken to send what our exact row sends.
bool exact_is_faster(const Call& call, const collectives::Row& row,
                     const collectives::Codecs& codecs, const topology::Topology& topology,
                     double net_bytes_per_s) {
  const auto seconds = [&](const collectives::Row& each) {
    return collectives::estimated_seconds(each, shape_of(call), topology, codecs, net_bytes_per_s,
                                          collectives::kGpuRates);
  };
  return seconds(collectives::find_row(row.op, "exact")) <= seconds(row);
}

// The row that SLIMCCL_ALGO asks for; null if it asks for none that fits.
const collectives::Row* asked_row(const collectives::Shape& shape, const Policy& policy,
                                  const topology::Topology* topology) {
  const std::string_view asked = collectives::overridden_row(shape.op, policy.algo);
  if (asked.empty()) return nullptr;
  const collectives::Row& row = collectives::find_row(shape.op, asked);
  return topology == nullptr || row.fits(shape, *topology) ? &row : nullptr;
}

// The words of a communicator's name, in small letters. ASCII alone, whatever the locale: ranks may
// have different ones.
std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> words(1);
  for (const char c : name) {
    const char small = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    if (small >= 'a' && small <= 'z') {
      words.back() += small;
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  return words;
}

// Whether a communicator's name says that activations travel by it. Parts of the sequence and
// experts have data parallel groups too ("dp_shard_cp", "EXPERT_DATA_PARALLEL_GROUP"), which carry
// weights; parts of a matrix have not.
bool names_activations(std::string_view comm) {
  const std::vector<std::string> words = words_of(comm);
  const auto any_of = [&](std::initializer_list<std::string_view> some) {
    return std::ranges::find_first_of(words, some) != words.end();
  };
  if (any_of({"tp", "etp", "tensor"})) return true;
  if (any_of({"dp", "data", "fsdp", "ddp", "shard", "replicate"})) return false;
  return any_of({"sp", "sequence", "ulysses", "cp", "context", "ep", "expert", "mp", "model"});
}

// What a word for all traffic is not meant for. auto has its evidence.
bool is_exact_by_name(const Policy& policy, std::string_view comm) {
  return (policy.profile == Profile::kZeropp || policy.audits()) && names_activations(comm);
}

bool is_for_all(const Rule& rule) { return rule.comm.find_first_not_of('*') == std::string::npos; }

// Whether a rule is the first that fits some large call of a communicator.
bool decides_some(const Rule& rule, const Policy& policy, std::string_view comm) {
  const uint64_t elems = std::max(rule.min_elems, policy.floor_elems);
  for (const Operation op :
       {Operation::kAllGather, Operation::kReduceScatter, Operation::kAllReduce}) {
    for (const ncclDataType_t type : {ncclBfloat16, ncclFloat16, ncclFloat32}) {
      if (first_rule(policy.rules, comm, op, type, elems) == &rule) return true;
    }
  }
  return false;
}

// A pattern that fits a name, without what a line of rules or a shell takes for its own.
std::string pattern_of(std::string_view comm) {
  std::string pattern(comm);
  std::ranges::replace_if(
      pattern,
      [](char c) { return (c >= 0 && c <= ' ') || std::strchr(";:=*\"'`$\\!", c) != nullptr; },
      '?');
  return pattern;
}

}  // namespace

collectives::Collective collective_of(Operation op) {
  switch (op) {
    case Operation::kAllGather:
      return collectives::Collective::kAllGather;
    case Operation::kReduceScatter:
      return collectives::Collective::kReduceScatter;
    case Operation::kAllReduce:
      return collectives::Collective::kAllReduce;
    default:
      break;
  }
  ensure(false, name(op), " is never compressed, so it has no savings");
  return {};
}

std::string_view name(Profile profile) { return kProfiles[static_cast<size_t>(profile)]; }

Profile profile_from_name(std::string_view name) {
  const auto* const found = std::ranges::find(kProfiles, name);
  check(found != std::end(kProfiles), ncclInvalidUsage, "no profile \"", name,
        "\": there are exact, audit, auto and zeropp");
  return static_cast<Profile>(found - std::begin(kProfiles));
}

Policy policy_from(const Config& settings) {
  collectives::check_overrides(settings.algo);
  constexpr double kBytesPerGbit = 1e9 / 8;
  return {.profile = profile_from_name(settings.profile),
          .floor_elems = settings.floor_elems,
          .net_bytes_per_s = settings.net_gbits * kBytesPerGbit,
          .algo = settings.algo,
          .rules = read_rules(settings.rules)};
}

Decision decide(const Call& call, const Policy& policy, const Facts& facts) {
  if (const Reason why = objection(call, policy, facts); why != Reason::kCompressible) return {why};
  const collectives::Row* const asked = asked_row(shape_of(call), policy, facts.topology);
  const collectives::Row& row =
      asked != nullptr ? *asked : collectives::find_row(collective_of(call.op), "two_hop");
  const Rule* const rule =
      first_rule(policy.rules, facts.comm, call.op, call.type, elems_per_rank(call, facts.ranks));
  if (!row.lossy || (rule != nullptr && rule->treat == Treat::kExact)) return {Reason::kRule};
  if (rule == nullptr && is_exact_by_name(policy, facts.comm)) return {Reason::kActivations};
  const auto treat = rule != nullptr ? std::optional(rule->treat) : std::nullopt;
  Decision decision{.codecs = codecs_of(policy.profile, call.op, treat),
                    .asks_evidence = rule == nullptr && policy.compresses(),
                    .ruled_gradients = treat == Treat::kGradients};
  if (asked == nullptr && facts.topology != nullptr &&
      exact_is_faster(call, row, decision.codecs, *facts.topology, policy.net_bytes_per_s)) {
    decision.reason = Reason::kExactIsFaster;
    decision.codecs = {};
  } else {
    decision.reason = policy.audits() ? Reason::kCompressible : Reason::kCompressed;
    decision.row = &row;
  }
  return decision;
}

bool gathers_in_nodes(const Policy& policy, const topology::Topology& topology) {
  const auto* const row =
      asked_row({.op = collectives::Collective::kAllGather, .type = ncclFloat, .count = 1}, policy,
                &topology);
  return row != nullptr && row->name == "node";
}

Reason after_evidence(const Decision& decision, Profile profile, Evidence evidence) {
  const bool asks = decision.asks_evidence && decision.reason == Reason::kCompressed;
  if (!asks) return decision.reason;  // what is exact as it is faster needs no better reason
  if (evidence == Evidence::kDemoted) return Reason::kImplausible;
  if (profile == Profile::kAuto && evidence != Evidence::kPromoted) return Reason::kNoEvidence;
  return decision.reason;
}

collectives::Codecs codecs_of(Profile profile, Operation op, std::optional<Treat> treat) {
  collectives::Codecs codecs = collectives::codecs_of_profile(collective_of(op));
  const bool sums = op != Operation::kAllGather, spreads = op != Operation::kReduceScatter;
  const bool weights = treat == Treat::kWeights;
  if (sums && weights) codecs.reduce = quant::Codec::kQ8;
  if (sums && spreads && (weights || profile == Profile::kAuto)) codecs.gather = quant::Codec::kQ8;
  return codecs;
}

uint64_t elems_per_rank(const Call& call, int ranks) {
  const auto divisor = static_cast<uint64_t>(call.op == Operation::kAllReduce ? ranks : 1);
  return call.count / divisor + (call.count % divisor != 0 ? 1 : 0);
}

std::string why_exact_by_name(const Policy& policy, std::string_view comm) {
  // One that is for all says nothing of this name, unless it asks for compression.
  const bool ruled = std::ranges::any_of(policy.rules, [&](const Rule& rule) {
    return glob_fits(rule.comm, comm) && (!is_for_all(rule) || rule.treat != Treat::kExact);
  });
  if (ruled || !is_exact_by_name(policy, comm)) return "";
  const std::string pattern = pattern_of(comm);
  return concat(
      "its name says that activations travel by it; if they are weights and gradients, "
      "make \"",
      pattern, ":all_gather=weights; ", pattern,
      "=gradients\" the first of SLIMCCL_RULES, or of its file, on all ranks");
}

std::string blanket_warning(const Policy& policy, std::string_view comm) {
  if (!policy.compresses() || !names_activations(comm)) return "";
  for (const Rule& rule : policy.rules) {
    if (!is_for_all(rule) || rule.treat == Treat::kExact || !decides_some(rule, policy, comm)) {
      continue;
    }
    return concat("its name says that activations travel by it, and the rule \"",
                  to_text({&rule, 1}), "\" has them compressed; if that is not meant, make \"",
                  pattern_of(comm),
                  "=exact\" the first of SLIMCCL_RULES, or of its file, on all ranks");
  }
  return "";
}

std::string hookless_warning(std::string_view run, bool profile_is_set) {
  constexpr std::string_view kProfile = "profile=";
  const size_t start = run.find(kProfile);
  if (profile_is_set || start == std::string_view::npos) return "";
  const std::string_view rest = run.substr(start + kProfile.size());
  const std::string_view asked = rest.substr(0, rest.find(','));
  if (asked == name(Profile::kExact)) return "";
  return concat("slimccl-run was asked for profile ", asked,
                ", and its hooks are not in this process, so that nothing is compressed: install "
                "the wheel slimccl in the Python that runs the ranks, with torch 2.5 or newer and "
                "TORCH_DEVICE_BACKEND_AUTOLOAD not 0; a program that is not Python takes "
                "SLIMCCL_PROFILE=",
                asked, " by itself");
}

Savings savings(const Call& call, const collectives::Codecs& codecs,
                const topology::Topology& topology, int rank) {
  return {rank_out_bytes(shape_of(call), topology, {}, rank),
          rank_out_bytes(shape_of(call), topology, codecs, rank)};
}

bool in_place(const Call& call, int rank, const void* from, const void* into) {
  if (from == nullptr || into == nullptr) return false;
  const auto first = reinterpret_cast<uintptr_t>(from), second = reinterpret_cast<uintptr_t>(into);
  const uintptr_t slice = static_cast<uintptr_t>(rank) * call.count * element_bytes(call.type);
  switch (call.op) {
    case Operation::kAllGather:
      return first == second + slice;
    case Operation::kReduceScatter:
      return second == first + slice;
    case Operation::kGather:
      return rank == call.root && first == second + slice;
    case Operation::kScatter:
      return rank == call.root && second == first + slice;
    default:
      return first == second;
  }
}

uint64_t element_bytes(ncclDataType_t type) noexcept {
  static constexpr uint8_t kBytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  static_assert(std::size(kBytes) == ncclNumTypes);
  const auto index = static_cast<unsigned>(type);
  return index < std::size(kBytes) ? kBytes[index] : 0;
}

}  // namespace slimccl::overlay
