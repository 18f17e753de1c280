// Which calls are compressed, how, and what that saves: tables of cases.
#include "core/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <clocale>
#include <cmath>

#include "base/error.h"
#include "collectives/catalog.h"
#include "collectives/select.h"
#include "core/record.h"

namespace slimccl::overlay {
namespace {

using enum Operation;
using collectives::Codecs;
using quant::Codec;
using testing::AllOf;
using testing::HasSubstr;

constexpr int kRanks = 4;
constexpr auto kAllowed = Reason::kCompressible;

Policy policy_of(Profile profile) { return {.profile = profile, .floor_elems = 1000}; }
Policy ruled(Profile profile, std::string_view rules) {
  return {.profile = profile, .floor_elems = 1000, .rules = rules_from_line(rules)};
}
Facts facts_of(std::string_view comm) {
  return {.standing = kAllowed, .ranks = kRanks, .comm = comm};
}

struct Case {
  const char* what;
  Call call;
  Reason expected;
  Facts facts{.standing = kAllowed, .ranks = kRanks};
};

TEST(OverlayPolicy, SaysWhyACallIsExact) {
  const Case cases[] = {
      {"weights", {kAllGather, 1000, ncclBfloat16}, kAllowed},
      {"gradients", {kReduceScatter, 1000, ncclFloat, ncclAvg}, kAllowed},
      {"all-reduce", {kAllReduce, 3997, ncclFloat16, ncclSum}, kAllowed},
      {"a sum of one's own", {kAllReduce, 4000, ncclFloat, ncclRedOp_t(7)}, kAllowed},
      {"all-reduce's floor is per rank", {kAllReduce, 3996, ncclFloat}, Reason::kFloor},
      {"small", {kAllGather, 999, ncclFloat}, Reason::kFloor},
      {"a barrier", {kAllReduce, 1, ncclFloat}, Reason::kFloor},
      {"norms", {kAllReduce, 38, ncclFloat}, Reason::kFloor},
      {"a flag", {kAllReduce, 1, ncclUint8, ncclMax}, Reason::kType},
      {"empty", {kAllGather, 0, ncclFloat}, Reason::kEmpty},
      {"product", {kAllReduce, 4000, ncclFloat, ncclProd}, Reason::kReduction},
      {"minimum", {kReduceScatter, 4000, ncclFloat, ncclMin}, Reason::kReduction},
      {"maximum", {kAllReduce, 4000, ncclFloat, ncclMax}, Reason::kReduction},
      {"bytes", {kAllGather, 4000, ncclUint8}, Reason::kType},
      {"double", {kAllGather, 4000, ncclDouble}, Reason::kType},
      {"fp8", {kAllGather, 4000, ncclFloat8e4m3}, Reason::kType},
      {"unknown type", {kAllGather, 4000, ncclNumTypes}, Reason::kType},
      {"broadcast", {kBroadcast, 4000, ncclFloat}, Reason::kOperation},
      {"reduce", {kReduce, 4000, ncclFloat}, Reason::kOperation},
      {"all-to-all", {kAlltoAll, 4000, ncclFloat}, Reason::kOperation},
      {"send", {kSend, 4000, ncclFloat}, Reason::kPointToPoint},
      {"receive", {kRecv, 4000, ncclFloat}, Reason::kPointToPoint},
      {"window", {kAllGather, 4000, ncclFloat}, Reason::kWindow, {kAllowed, kRanks, true}},
      {"capture", {kAllGather, 4000, ncclFloat}, Reason::kCapture, {kAllowed, kRanks, false, true}},
      {"paused",
       {kAllGather, 4000, ncclFloat},
       Reason::kPaused,
       {kAllowed, kRanks, false, false, true}},
      {"one node", {kAllGather, 4000, ncclFloat}, Reason::kOneNode, {Reason::kOneNode}},
      {"unseen", {kSend, 1, ncclFloat}, Reason::kUnseen, {Reason::kUnseen}},
      {"settings", {kAllGather, 4000, ncclFloat}, Reason::kSettings, {Reason::kSettings}},
  };
  for (const Case& one : cases) {
    const bool may = one.expected == kAllowed;
    for (const Profile profile : {Profile::kAudit, Profile::kAuto, Profile::kZeropp}) {
      const Decision decision = decide(one.call, policy_of(profile), one.facts);
      const bool compresses = may && profile != Profile::kAudit;
      EXPECT_EQ(text(decision.reason), text(compresses ? Reason::kCompressed : one.expected))
          << one.what;
      EXPECT_EQ(decision.row != nullptr, may) << one.what;
      EXPECT_EQ(decision.asks_evidence, compresses) << one.what;
    }
    EXPECT_EQ(decide(one.call, policy_of(Profile::kExact), one.facts).reason, Reason::kProfile);
  }
}

TEST(OverlayPolicy, TheEvidenceHasTheLastWord) {
  const Call call{kAllGather, 4000, ncclBfloat16};
  const auto outcome = [&](Profile profile, Evidence evidence) {
    return after_evidence(decide(call, policy_of(profile), facts_of("")), profile, evidence);
  };
  EXPECT_EQ(outcome(Profile::kAuto, Evidence::kNone), Reason::kNoEvidence);
  EXPECT_EQ(outcome(Profile::kAuto, Evidence::kPromoted), Reason::kCompressed);
  EXPECT_EQ(outcome(Profile::kAuto, Evidence::kDemoted), Reason::kImplausible);
  EXPECT_EQ(outcome(Profile::kZeropp, Evidence::kNone), Reason::kCompressed);
  EXPECT_EQ(outcome(Profile::kZeropp, Evidence::kDemoted), Reason::kImplausible);
  EXPECT_EQ(outcome(Profile::kAudit, Evidence::kDemoted), Reason::kCompressible);
  EXPECT_EQ(after_evidence({Reason::kFloor}, Profile::kAuto, Evidence::kPromoted), Reason::kFloor);
  const Decision slower{.reason = Reason::kExactIsFaster, .asks_evidence = true};
  EXPECT_EQ(after_evidence(slower, Profile::kAuto, Evidence::kNone), Reason::kExactIsFaster);
  EXPECT_EQ(after_evidence(slower, Profile::kZeropp, Evidence::kDemoted), Reason::kExactIsFaster);
}

TEST(OverlayPolicy, RulesComeBeforeEvidence) {
  const Call gather{kAllGather, 4000, ncclBfloat16}, reduce{kAllReduce, 4000, ncclBfloat16};
  for (const Profile profile : {Profile::kAuto, Profile::kZeropp}) {
    const Policy policy = ruled(profile, "tp*=exact;dp:all_reduce=weights;dp=gradients");
    EXPECT_EQ(decide(gather, policy, facts_of("tp3")).reason, Reason::kRule);
    EXPECT_TRUE(decide(gather, policy, facts_of("")).asks_evidence);
    EXPECT_TRUE(decide(gather, policy, facts_of("dp")).ruled_gradients);
    EXPECT_FALSE(decide(reduce, policy, facts_of("dp")).ruled_gradients);
    EXPECT_FALSE(decide(gather, policy, facts_of("")).ruled_gradients);
    const Decision decision = decide(reduce, policy, facts_of("dp"));
    EXPECT_FALSE(decision.asks_evidence);
    EXPECT_EQ(after_evidence(decision, profile, Evidence::kDemoted), Reason::kCompressed);
    EXPECT_EQ(decision.codecs, (Codecs{Codec::kQ8, Codec::kQ8}));
    EXPECT_EQ(decide({kAllReduce, 8, ncclFloat}, policy, facts_of("dp")).reason, Reason::kFloor);
  }
  EXPECT_EQ(decide(gather, ruled(Profile::kAudit, "tp=exact"), facts_of("tp")).reason,
            Reason::kRule);
}

TEST(OverlayPolicy, TheNodeRowIsTakenWhereItIsAskedForAndFits) {
  const Call gather{kAllGather, 1 << 20, ncclBfloat16}, sum{kReduceScatter, 1 << 20, ncclBfloat16};
  Policy policy = policy_of(Profile::kZeropp);
  policy.net_bytes_per_s = 1e6;  // so slow that it always pays
  const auto row = [&](const Call& call, const char* nodes) {
    const topology::Topology topology = topology::parse(nodes);
    const Facts facts{.standing = kAllowed, .ranks = topology.ranks(), .topology = &topology};
    const Decision decision = decide(call, policy, facts);
    EXPECT_EQ(decision.codecs, codecs_of(policy.profile, call.op));
    return decision.row->name;
  };
  EXPECT_EQ(row(gather, "2x2"), "two_hop");
  EXPECT_FALSE(gathers_in_nodes(policy, topology::parse("2x2")));
  policy.algo = "all_gather=node";
  for (const char* equal : {"2x2", "4x2", "0,1,0,1"}) {
    EXPECT_EQ(row(gather, equal), "node");
    EXPECT_EQ(row(sum, equal), "two_hop");
    EXPECT_TRUE(gathers_in_nodes(policy, topology::parse(equal)));
  }
  for (const char* other : {"3+1", "4x1"}) {
    EXPECT_EQ(row(gather, other), "two_hop");
    EXPECT_FALSE(gathers_in_nodes(policy, topology::parse(other)));
  }
}

TEST(OverlayPolicy, CodecsFollowWhatTheCallCarries) {
  using enum Treat;
  constexpr Codec kPlain = Codec::kTensor, kQ8 = Codec::kQ8, kQ4s = Codec::kQ4s;
  for (const auto treat : {std::optional<Treat>{}, std::optional(kGradients)}) {
    EXPECT_EQ(codecs_of(Profile::kAuto, kAllGather, treat), (Codecs{kPlain, kQ8}));
    EXPECT_EQ(codecs_of(Profile::kAuto, kReduceScatter, treat), (Codecs{kQ4s, kPlain}));
    EXPECT_EQ(codecs_of(Profile::kAuto, kAllReduce, treat), (Codecs{kQ4s, kQ8}));
    EXPECT_EQ(codecs_of(Profile::kZeropp, kAllReduce, treat), (Codecs{kQ4s, kQ4s}));
  }
  EXPECT_EQ(codecs_of(Profile::kZeropp, kAllGather, kWeights), (Codecs{kPlain, kQ8}));
  EXPECT_EQ(codecs_of(Profile::kZeropp, kReduceScatter, kWeights), (Codecs{kQ8, kPlain}));
  EXPECT_EQ(codecs_of(Profile::kZeropp, kAllReduce, kWeights), (Codecs{kQ8, kQ8}));
}

TEST(OverlayPolicy, OnAFastNetworkExactIsFaster) {
  const auto topology = topology::parse("2x2");
  Facts facts = facts_of("");
  facts.topology = &topology;
  const Call large{kReduceScatter, 1 << 24, ncclBfloat16}, small{kReduceScatter, 1000, ncclFloat};
  Policy policy = policy_of(Profile::kZeropp);
  EXPECT_EQ(decide(large, policy, facts).reason, Reason::kCompressed);
  EXPECT_EQ(decide(small, policy, facts).reason, Reason::kExactIsFaster) << "launches cost more";
  policy.net_bytes_per_s = 1e13;
  EXPECT_EQ(decide(large, policy, facts).reason, Reason::kExactIsFaster);
  EXPECT_EQ(decide(large, policy, facts).row, nullptr);
  EXPECT_TRUE(decide(large, policy, facts).asks_evidence) << "it is evidence all the same";
  policy.algo = "reduce_scatter=two_hop";
  EXPECT_EQ(decide(large, policy, facts).reason, Reason::kCompressed) << "forced";
  policy.profile = Profile::kAudit;
  policy.algo = "";
  EXPECT_EQ(decide(large, policy, facts).reason, Reason::kExactIsFaster);
}

// Of an infinite network compression saves nothing but what travels inside nodes, where each rank
// has a link of its own.
TEST(OverlayPolicy, OnAnInfiniteNetworkExactIsFasterAtEverySize) {
  const auto topology = topology::parse("8x8");
  Facts facts{.standing = kAllowed, .ranks = 64, .topology = &topology};
  Policy policy = policy_of(Profile::kZeropp);
  policy.net_bytes_per_s = HUGE_VAL;
  for (const int log2 : {17, 20, 24}) {
    const Call weights{kAllGather, 1ull << log2, ncclBfloat16};
    const Call sums{kAllReduce, 64ull << log2, ncclBfloat16};
    EXPECT_EQ(text(decide(weights, policy, facts).reason), text(Reason::kExactIsFaster)) << log2;
    EXPECT_EQ(text(decide(sums, policy, facts).reason), text(Reason::kExactIsFaster)) << log2;
  }
}

TEST(OverlayPolicy, AnExactRowThatIsForcedIsARule) {
  Policy policy = policy_of(Profile::kZeropp);
  policy.algo = "reduce_scatter=exact,all_reduce=direct";
  EXPECT_EQ(decide({kReduceScatter, 4000, ncclFloat}, policy, facts_of("")).reason, Reason::kRule);
  EXPECT_EQ(decide({kAllReduce, 4000, ncclFloat}, policy, facts_of("")).reason, Reason::kRule);
  EXPECT_EQ(decide({kAllGather, 4000, ncclFloat}, policy, facts_of("")).reason,
            Reason::kCompressed);
}

TEST(OverlayPolicy, ANameOfActivationsSpeaksAgainstTheWordForAll) {
  const Call sums{kAllReduce, 4000, ncclFloat};
  EXPECT_EQ(decide(sums, policy_of(Profile::kZeropp), facts_of("tp")).reason, Reason::kActivations);
  EXPECT_EQ(decide(sums, policy_of(Profile::kAudit), facts_of("tp")).reason, Reason::kActivations);
  EXPECT_EQ(decide(sums, policy_of(Profile::kAuto), facts_of("tp")).reason, Reason::kCompressed)
      << "if the evidence says so";
  EXPECT_EQ(decide(sums, policy_of(Profile::kZeropp), facts_of("dp_shard_cp")).reason,
            Reason::kCompressed);
  EXPECT_EQ(decide(sums, ruled(Profile::kZeropp, "tp:all_gather=exact"), facts_of("tp")).reason,
            Reason::kActivations)
      << "the rule is of others";
  EXPECT_EQ(decide({kAllReduce, 1, ncclFloat}, policy_of(Profile::kZeropp), facts_of("tp")).reason,
            Reason::kFloor);
}

TEST(OverlayPolicy, NamesOfActivationsAreExactUntilARuleSpeaks) {
  const Policy zeropp = policy_of(Profile::kZeropp);
  for (const char* name :
       {"tp", "mesh_tp_0", "TENSOR_MODEL_PARALLEL_GROUP", "cp", "sp1", "ep", "Etp",
        "TENSOR_AND_DATA_PARALLEL_GROUP", "mesh_dp_tp", "EXPERT_MODEL_PARALLEL"}) {
    EXPECT_THAT(why_exact_by_name(zeropp, name), HasSubstr(concat(name, "=gradients"))) << name;
  }
  for (const char* name : {"", "world", "dp_shard_cp", "DATA_PARALLEL_GROUP_WITH_CP", "http",
                           "fsdp", "EXPERT_DATA_PARALLEL_GROUP", "dp_shard_in_ep", "default_pg"}) {
    EXPECT_EQ(why_exact_by_name(zeropp, name), "") << name;
  }
  EXPECT_NE(why_exact_by_name(policy_of(Profile::kAudit), "tp"), "") << "it tells of zeropp";
  EXPECT_EQ(why_exact_by_name(policy_of(Profile::kAuto), "tp"), "");
  EXPECT_EQ(why_exact_by_name(policy_of(Profile::kExact), "tp"), "");
  EXPECT_EQ(why_exact_by_name(ruled(Profile::kZeropp, "t*=exact"), "tp"), "");
  EXPECT_EQ(why_exact_by_name(ruled(Profile::kZeropp, "tp:all_gather:bf16=weights"), "tp"), "");
  EXPECT_NE(why_exact_by_name(ruled(Profile::kZeropp, "dp=weights"), "tp"), "");
  EXPECT_NE(why_exact_by_name(ruled(Profile::kZeropp, "*:all_reduce=exact"), "tp"), "");
  EXPECT_EQ(why_exact_by_name(ruled(Profile::kZeropp, "*:all_reduce=gradients"), "tp"), "");
}

TEST(OverlayPolicy, ARuleForAllThatCompressesActivationsIsWarnedOf) {
  for (const Profile profile : {Profile::kAuto, Profile::kZeropp}) {
    const auto warning = [&](std::string_view rules, std::string_view comm) {
      return blanket_warning(ruled(profile, rules), comm);
    };
    EXPECT_THAT(warning("dp=exact; *:all_reduce=gradients", "mesh_tp"),
                AllOf(HasSubstr("the rule \"*:all_reduce:*=gradients\" has them"),
                      HasSubstr("make \"mesh_tp=exact\" the first")));
    EXPECT_NE(warning("*:all_gather=exact; **=weights", "tp"), "");
    EXPECT_EQ(warning("*_tp=exact; *:all_reduce=gradients", "mesh_tp"), "");
    EXPECT_EQ(warning("*_tp=gradients; *=gradients", "mesh_tp"), "") << "your word";
    EXPECT_EQ(warning("*:all_reduce=gradients", "mesh_dp"), "");
    EXPECT_EQ(warning("*=exact", "mesh_tp"), "");
    EXPECT_NE(warning("mesh_tp:all_gather=exact; *:all_reduce=gradients", "mesh_tp"), "")
        << "the first is of other calls";
    EXPECT_EQ(warning("mesh_tp:all_reduce=exact; *:all_reduce=gradients", "mesh_tp"), "");
    EXPECT_EQ(warning("*=exact; *=weights", "mesh_tp"), "") << "the second decides nothing";
  }
  EXPECT_EQ(blanket_warning(ruled(Profile::kExact, "*=weights"), "tp"), "");
}

TEST(OverlayPolicy, TheRulesThatAreSuggestedFitAnyName) {
  for (const char* name : {"tp", "tp:0;1", " tp ", "tp=\"$1\"", "t*p tp", "tp`!\\'\t", "\ntp\r"}) {
    const std::string why = why_exact_by_name(policy_of(Profile::kZeropp), name);
    const size_t begin = why.find('"') + 1;
    const std::string rules = why.substr(begin, why.find('"', begin) - begin);
    const Policy policy = ruled(Profile::kZeropp, rules);
    EXPECT_EQ(why_exact_by_name(policy, name), "") << name;
    for (const Operation op : {kAllGather, kReduceScatter, kAllReduce}) {
      const Decision decision = decide({op, 8000, ncclFloat}, policy, facts_of(name));
      EXPECT_EQ(decision.reason, Reason::kCompressed) << rules;
    }
  }
}

// Names are of one communicator on all ranks, whose processes may have different locales.
TEST(OverlayPolicy, WordsAreAsciiWhateverTheLocale) {
  const char* const before = std::setlocale(LC_CTYPE, nullptr);
  const std::string restore = before == nullptr ? "C" : before;
  for (const char* locale : {"C", "C.UTF-8", "en_US.ISO-8859-1", "tr_TR"}) {
    if (std::setlocale(LC_CTYPE, locale) == nullptr) continue;
    EXPECT_NE(why_exact_by_name(policy_of(Profile::kZeropp), "\xe4tp"), "") << locale;
    EXPECT_EQ(why_exact_by_name(policy_of(Profile::kZeropp), "cp_REPLICATE"), "") << locale;
  }
  (void)std::setlocale(LC_CTYPE, restore.c_str());
}

TEST(OverlayPolicy, AProcessUnderSlimcclRunWithoutItsHooksIsWarned) {
  EXPECT_THAT(hookless_warning("on,profile=zeropp,verbose", false),
              AllOf(HasSubstr("asked for profile zeropp,"), HasSubstr("hooks are not in this")));
  EXPECT_THAT(hookless_warning("on,profile=auto", false), HasSubstr("SLIMCCL_PROFILE=auto by"));
  EXPECT_EQ(hookless_warning("on,profile=zeropp", true), "");
  EXPECT_EQ(hookless_warning("on,profile=exact", false), "");
  EXPECT_EQ(hookless_warning("on", false), "");
  EXPECT_EQ(hookless_warning("", false), "");
}

TEST(OverlayPolicy, WhatDecidesIsInTheSetUpRecord) {
  const Policy policy{.profile = Profile::kAuto, .floor_elems = 7, .net_bytes_per_s = 1e9};
  EXPECT_EQ(settings_text(policy), "profile=auto floor=7 algo= net=1e+09 rules=none");
  const auto differs = [&](auto&& change) {
    Policy other = policy;
    change(other);
    return settings_text(other) != settings_text(policy);
  };
  EXPECT_TRUE(differs([](Policy& other) { other.profile = Profile::kZeropp; }));
  EXPECT_TRUE(differs([](Policy& other) { other.floor_elems = 8; }));
  EXPECT_TRUE(differs([](Policy& other) { other.net_bytes_per_s = std::nextafter(1e9, 2e9); }));
  EXPECT_TRUE(differs([](Policy& other) { other.algo = "all_gather=exact"; }));
  EXPECT_TRUE(differs([](Policy& other) { other.rules = rules_from_line("tp=exact"); }));
}

TEST(OverlayPolicy, ComesFromTheSettings) {
  Config settings;
  settings.profile = "zeropp";
  settings.floor_elems = 5;
  settings.net_gbits = 8;
  settings.algo = "all_gather=exact";
  settings.rules = "tp=exact";
  const Policy policy = policy_from(settings);
  EXPECT_EQ(policy.profile, Profile::kZeropp);
  EXPECT_EQ(policy.floor_elems, 5u);
  EXPECT_EQ(policy.net_bytes_per_s, 1e9);
  EXPECT_EQ(policy.algo, "all_gather=exact");
  EXPECT_EQ(policy.rules.size(), 1u);
  settings.algo = "all_gather=no_such_row";
  EXPECT_THROW((void)policy_from(settings), Error);
}

TEST(OverlayPolicy, SavingsAreTheCataloguesBytes) {
  const auto topology = topology::parse("3+1");
  for (const Operation op : {kAllGather, kReduceScatter, kAllReduce}) {
    const Call call{op, 10007, ncclBfloat16};
    const auto collective = collectives::collective_from_name(name(op));
    const collectives::Shape shape{.op = collective, .type = call.type, .count = call.count};
    const auto& exact = collectives::find_row(collective, "exact");
    const auto& two_hop = collectives::find_row(collective, "two_hop");
    const Codecs codecs = codecs_of(Profile::kAudit, op);
    EXPECT_EQ(codecs, collectives::codecs_of_profile(collective));
    Savings sum{0, 0};
    for (int rank = 0; rank < topology.ranks(); ++rank) {
      const Savings one = savings(call, codecs, topology, rank);
      sum.exact_bytes += one.exact_bytes;
      sum.compressed_bytes += one.compressed_bytes;
    }
    EXPECT_EQ(sum.exact_bytes, exact.wire_bytes(shape, topology, {}).between_nodes) << name(op);
    EXPECT_EQ(sum.compressed_bytes, two_hop.wire_bytes(shape, topology, codecs).between_nodes)
        << name(op);
    EXPECT_LT(sum.compressed_bytes, sum.exact_bytes) << name(op);
  }
}

}  // namespace
}  // namespace slimccl::overlay
