#include "core/policy.h"

#include <utility>

#include "base/error.h"
#include "collectives/catalog.h"
#include "collectives/select.h"
#include "quant/codec.h"

namespace slimccl::overlay {
namespace {

// Sums, however they are scaled: ncclSum, ncclAvg and what ncclRedOpCreatePreMulSum makes.
bool is_sum(ncclRedOp_t reduction) {
  return reduction != ncclProd && reduction != ncclMax && reduction != ncclMin;
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

Profile profile_from_name(std::string_view name) {
  constexpr std::pair<std::string_view, Profile> kProfiles[] = {{"exact", Profile::kExact},
                                                                {"audit", Profile::kAudit},
                                                                {"auto", Profile::kAuto},
                                                                {"zeropp", Profile::kZeropp}};
  for (const auto& [known, profile] : kProfiles) {
    if (name == known) return profile;
  }
  throw Error(ncclInvalidUsage,
              concat("no profile \"", name, "\": there are exact, audit, auto and zeropp"));
}

Class class_of(Operation op) {
  if (op == Operation::kAllGather) return Class::kWeights;
  if (op == Operation::kReduceScatter || op == Operation::kAllReduce) return Class::kGradients;
  return Class::kUnknown;
}

Reason classify(const Call& call, const Policy& policy, const Facts& facts) {
  if (policy.profile == Profile::kExact) return Reason::kProfile;
  if (facts.standing != Reason::kCompressible) return facts.standing;
  if (call.op == Operation::kSend || call.op == Operation::kRecv) return Reason::kPointToPoint;
  if (class_of(call.op) == Class::kUnknown) return Reason::kOperation;
  if (!quant::is_float(call.type)) return Reason::kType;
  if (call.op != Operation::kAllGather && !is_sum(call.reduction)) return Reason::kReduction;
  if (call.count == 0) return Reason::kEmpty;
  const auto divisor = static_cast<uint64_t>(call.op == Operation::kAllReduce ? facts.ranks : 1);
  if ((call.count + divisor - 1) / divisor < policy.floor_elems) return Reason::kFloor;
  if (facts.windowed) return Reason::kWindow;
  if (facts.capturing) return Reason::kCapture;
  if (facts.paused) return Reason::kPaused;
  return policy.audits() ? Reason::kCompressible : Reason::kCompressed;
}

collectives::Codecs codecs_of(Profile profile, Operation op) {
  collectives::Codecs codecs = collectives::codecs_of_profile(collective_of(op));
  if (op == Operation::kAllReduce && profile == Profile::kAuto) codecs.gather = quant::Codec::kQ8;
  return codecs;
}

Savings savings(const Call& call, const Policy& policy, const topology::Topology& topology,
                int rank) {
  const collectives::Shape shape{
      .op = collective_of(call.op), .type = call.type, .count = call.count};
  return {rank_out_bytes(shape, topology, {}, rank),
          rank_out_bytes(shape, topology, codecs_of(policy.profile, call.op), rank)};
}

uint64_t element_bytes(ncclDataType_t type) noexcept {
  static constexpr uint8_t kBytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  static_assert(std::size(kBytes) == ncclNumTypes);
  const auto index = static_cast<unsigned>(type);
  return index < std::size(kBytes) ? kBytes[index] : 0;
}

}  // namespace slimccl::overlay
