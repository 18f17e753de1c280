// What trainers send, step after step on two ranks, and what becomes of it under both profiles: the
// table of docs/policy.md. What must never be compressed under auto is exact from the first call
// on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <set>

#include "core/evidence.h"
#include "quant/half.h"

namespace slimccl::overlay {
namespace {

using enum Operation;

constexpr uint64_t kCount = 100000;

struct Traffic {
  Call call;
  bool in_place = false;
  Content content = Content::kPlausible;
};

// Calls of one communicator by two ranks that agree at the points of agreement.
class Trainer {
 public:
  Trainer(Profile profile, std::string_view comm, std::string_view rules)
      : policy_{.profile = profile, .rules = rules_from_line(rules)},
        facts_{.standing = Reason::kCompressible, .ranks = 2, .comm = comm} {}

  Reason make(const Traffic& traffic) {
    const Decision decision = decide(traffic.call, policy_, facts_);
    Evidence word = Evidence::kNone;
    for (EvidenceTable& table : tables_) {
      if (!decision.asks_evidence) {
        table.pass(traffic.call, decision.ruled_gradients);
        continue;
      }
      const Duty duty = table.next_call();
      if (duty.needs_outcome) (void)table.apply(told_);
      const auto seen = table.see(traffic.call, traffic.in_place);
      if (seen.wants_a_sample) table.note(seen.kind, traffic.content);
      word = seen.word;
      due_ = duty.takes_snapshot;
    }
    if (due_) told_ = {tables_[0].snapshot(), tables_[1].snapshot()};
    due_ = false;
    return after_evidence(decision, policy_.profile, word);
  }

 private:
  const Policy policy_;
  const Facts facts_;
  std::vector<EvidenceTable> tables_{2, EvidenceTable(policy_.profile)};
  std::vector<std::vector<std::byte>> told_;
  bool due_ = false;
};

// What became of the step's first call: in the end, and at any time.
struct Fate {
  Reason last;
  std::set<Reason> all;
};
Fate fate(const std::vector<Traffic>& step, Profile profile, std::string_view comm,
          std::string_view rules) {
  Trainer trainer(profile, comm, rules);
  Fate fate;
  for (int i = 0; i < 200; ++i) {
    for (const Traffic& traffic : step) {
      const Reason reason = trainer.make(traffic);
      if (&traffic != &step.front()) continue;
      fate.last = reason;
      fate.all.insert(reason);
    }
  }
  return fate;
}

Content seen_as(const std::function<float(std::mt19937&)>& draw) {
  std::mt19937 random(5);
  std::vector<uint16_t> elems(kSampleElems);
  for (uint16_t& elem : elems) elem = quant::float_to_bf16(draw(random));
  return content_of(std::as_bytes(std::span(elems)), ncclBfloat16);
}
float normal(std::mt19937& random) { return std::normal_distribution<float>()(random); }

const auto kWeightsContent = seen_as(normal);
const auto kZeros = seen_as([](std::mt19937&) { return 0.0f; });
const auto kOverflow = seen_as([](std::mt19937& random) {
  return random() % 8 == 0 ? std::numeric_limits<float>::infinity() : normal(random);
});
const auto kMoments = seen_as([](std::mt19937& random) { return std::pow(normal(random), 2.0f); });
const auto kCodes = seen_as([](std::mt19937& random) {  // all pairs of codes are about as likely
  return quant::bf16_to_float(static_cast<uint16_t>(random()));
});

Traffic gather(bool in_place, Content content = kWeightsContent, uint64_t count = kCount) {
  return {{kAllGather, count, ncclBfloat16}, in_place, content};
}
Traffic scatter(ncclRedOp_t reduction, bool in_place, Content content = kWeightsContent) {
  return {{kReduceScatter, kCount, ncclFloat, reduction}, in_place, content};
}
Traffic reduce(ncclRedOp_t reduction, uint64_t count = 2 * kCount) {
  return {{kAllReduce, count, ncclFloat, reduction}, true, kWeightsContent};
}

struct Case {
  const char* what;
  std::vector<Traffic> step;  // its first call is the one in question
  Reason under_auto, under_zeropp;
  std::string_view comm = "world", rules = "";
};

const auto kScaled = static_cast<ncclRedOp_t>(ncclNumOps);

const Case kCases[] = {
    {"FSDP2 weights",
     {gather(true), scatter(ncclAvg, false)},
     Reason::kCompressed,
     Reason::kCompressed},
    {"FSDP2 gradients",
     {scatter(ncclAvg, false), gather(true)},
     Reason::kCompressed,
     Reason::kCompressed},
    {"FSDP2 gradients, torchtitan",
     {scatter(kScaled, false), gather(true)},
     Reason::kCompressed,
     Reason::kCompressed},
    {"FSDP1 weights",
     {gather(false), scatter(ncclSum, false)},
     Reason::kNoEvidence,
     Reason::kCompressed},
    {"FSDP1 gradients",
     {scatter(ncclSum, false), gather(false)},
     Reason::kNoEvidence,
     Reason::kCompressed},
    {"FSDP1, by rules",
     {scatter(ncclSum, false), gather(false)},
     Reason::kCompressed,
     Reason::kCompressed,
     "dp",
     "dp:reduce_scatter=gradients; dp:all_gather=weights"},
    {"weights beside gradients that a rule names",
     {gather(true), scatter(ncclSum, false)},
     Reason::kCompressed,
     Reason::kCompressed,
     "dp",
     "*:reduce_scatter=gradients"},
    {"FSDP2 weights, two layers, or a checkpoint that gathers like them",
     {gather(true), gather(true), scatter(ncclAvg, false), scatter(ncclAvg, false)},
     Reason::kCompressed,
     Reason::kCompressed},
    {"parameters averaged now and then",
     {reduce(ncclAvg), gather(false)},
     Reason::kCompressed,
     Reason::kCompressed},
    {"HSDP between replicas", {reduce(ncclAvg)}, Reason::kCompressed, Reason::kCompressed},
    {"DDP and ZeRO-1/2 gradients", {reduce(ncclSum)}, Reason::kNoEvidence, Reason::kCompressed},
    {"DDP gradients, by a rule",
     {reduce(ncclSum)},
     Reason::kCompressed,
     Reason::kCompressed,
     "world",
     "world:all_reduce=gradients"},
    {"ZeRO-1/2 weights after the step",
     {gather(true), reduce(ncclSum)},
     Reason::kNoEvidence,
     Reason::kCompressed},
    {"ZeRO-3 and Megatron weights",
     {gather(true), scatter(ncclSum, true)},
     Reason::kCompressed,
     Reason::kCompressed},
    {"ZeRO-3 and Megatron gradients",
     {scatter(ncclSum, true), gather(true)},
     Reason::kCompressed,
     Reason::kCompressed},
    {"QLoRA's packed codes",
     {gather(true, kCodes, 3 * kCount), scatter(ncclAvg, false)},
     Reason::kImplausible,
     Reason::kImplausible},
    {"second moments in bf16",
     {gather(true, kMoments), scatter(ncclAvg, false)},
     Reason::kImplausible,
     Reason::kImplausible},
    {"activations gathered",
     {gather(false), scatter(ncclSum, false)},
     Reason::kNoEvidence,
     Reason::kActivations,
     "tp"},
    {"activations scattered",
     {scatter(ncclSum, false), gather(false)},
     Reason::kNoEvidence,
     Reason::kActivations,
     "tp"},
    {"activations summed", {reduce(ncclSum)}, Reason::kNoEvidence, Reason::kActivations, "tp"},
    {"activations that no name betrays",
     {reduce(ncclSum)},
     Reason::kNoEvidence,
     Reason::kCompressed,
     "inner"},
    {"the sums of a name like that of activations, by a rule",
     {reduce(ncclSum)},
     Reason::kCompressed,
     Reason::kCompressed,
     "model",
     "model=gradients"},
    {"activations, by a rule",
     {gather(false), scatter(ncclSum, false)},
     Reason::kRule,
     Reason::kRule,
     "tp",
     "tp*=exact"},
    {"gradients that overflow",
     {scatter(ncclAvg, false, kOverflow)},
     Reason::kCompressed,
     Reason::kCompressed},
    {"gradients of zeros",
     {scatter(ncclAvg, false, kZeros)},
     Reason::kNoEvidence,
     Reason::kCompressed},
    {"nothing", {{{kAllGather, 0, ncclBfloat16}}}, Reason::kEmpty, Reason::kEmpty},
    {"a barrier", {reduce(ncclSum, 1)}, Reason::kFloor, Reason::kFloor},
    {"norms", {reduce(ncclSum, 38)}, Reason::kFloor, Reason::kFloor},
    {"a flag", {{{kAllReduce, 1, ncclUint8, ncclMax}}}, Reason::kType, Reason::kType},
    {"token ids", {{{kAllGather, kCount, ncclInt64}}}, Reason::kType, Reason::kType},
    {"weights as bytes", {{{kAllGather, kCount, ncclUint8}}}, Reason::kType, Reason::kType},
    {"weights sent by their owner",
     {{{kBroadcast, kCount, ncclFloat}}},
     Reason::kOperation,
     Reason::kOperation},
    {"the highest logits", {reduce(ncclMax)}, Reason::kReduction, Reason::kReduction},
};

TEST(OverlayNever, TrainersTrafficMeetsItsFate) {
  for (const Case& one : kCases) {
    const Fate under_auto = fate(one.step, Profile::kAuto, one.comm, one.rules);
    EXPECT_EQ(text(under_auto.last), text(one.under_auto)) << one.what;
    EXPECT_EQ(under_auto.all.contains(Reason::kCompressed), one.under_auto == Reason::kCompressed)
        << one.what << ": never, not even at first";
    const Fate under_zeropp = fate(one.step, Profile::kZeropp, one.comm, one.rules);
    EXPECT_EQ(text(under_zeropp.last), text(one.under_zeropp)) << one.what;
  }
}

TEST(OverlayNever, ZeroppTakesTheUsersWordUntilTheFirstAgreement) {
  const std::vector<Traffic> step{gather(true, kCodes)};
  EXPECT_EQ(fate(step, Profile::kZeropp, "", "").all,
            (std::set{Reason::kCompressed, Reason::kImplausible}));
  EXPECT_EQ(fate(step, Profile::kZeropp, "", "*=exact").all, std::set{Reason::kRule});
}

// Checkpoints gather with the communicator, type and count of the weights, but after other calls.
TEST(OverlayNever, ACheckpointAmidTrainingIsAnotherKindButForItsFirstCall) {
  Trainer trainer(Profile::kAuto, "world", "");
  const std::vector<Traffic> step{gather(true), scatter(ncclAvg, false)};
  for (int i = 0; i < 100; ++i) {
    for (const Traffic& traffic : step) (void)trainer.make(traffic);
  }
  EXPECT_EQ(trainer.make(gather(false)), Reason::kCompressed) << "hence slimcclPause";
  for (int i = 0; i < 200; ++i) EXPECT_EQ(trainer.make(gather(false)), Reason::kNoEvidence);
}

// Where training gathers equal counts in succession, a checkpoint's gathers in place are of the
// same kind, from the second on too.
TEST(OverlayNever, ACheckpointThatGathersAsTrainingDoesIsCompressedUnlessPaused) {
  Trainer trainer(Profile::kAuto, "world", "");
  const std::vector<Traffic> step{gather(true), gather(true), scatter(ncclAvg, false),
                                  scatter(ncclAvg, false)};
  for (int i = 0; i < 100; ++i) {
    for (const Traffic& traffic : step) (void)trainer.make(traffic);
  }
  for (int i = 0; i < 200; ++i) EXPECT_EQ(trainer.make(gather(true)), Reason::kCompressed);
}

}  // namespace
}  // namespace slimccl::overlay
