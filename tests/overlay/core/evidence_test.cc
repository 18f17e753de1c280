// What ranks that see kinds of calls conclude once they have told each other.
#include "core/evidence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"

namespace slimccl::overlay {
namespace {

using enum Operation;
using testing::ElementsAre;
using testing::HasSubstr;

const Call kWeightGather{kAllGather, 4000, ncclBfloat16};
const Call kScatterSum{kReduceScatter, 4000, ncclFloat, ncclSum};
const Call kScatterAvg{kReduceScatter, 4000, ncclFloat, ncclAvg};
const Call kScatterScaled{kReduceScatter, 4000, ncclFloat, static_cast<ncclRedOp_t>(9)};
const Call kSum{kAllReduce, 4000, ncclFloat, ncclSum};
const Call kAvg{kAllReduce, 4000, ncclFloat, ncclAvg};

// Two ranks' tables that make the same calls.
struct Ranks {
  std::vector<EvidenceTable> tables;

  explicit Ranks(Profile profile) : tables(2, EvidenceTable(profile)) {}

  // `times` calls after the same other call, all with such content on rank 0, and on rank 1.
  void see(const Call& call, bool in_place, Content first = Content::kPlausible,
           Content second = Content::kPlausible, int times = 3) {
    for (int i = 0; i < times; ++i) {
      for (size_t rank = 0; rank < tables.size(); ++rank) {
        tables[rank].pass({kBroadcast, 1, ncclFloat});
        const auto seen = tables[rank].see(call, in_place);
        tables[rank].note(seen.kind, rank == 0 ? first : second);
      }
    }
  }
  void agree() {
    const std::vector<std::vector<std::byte>> words{tables[0].snapshot(), tables[1].snapshot()};
    for (EvidenceTable& table : tables) (void)table.apply(words);
  }
  // What now holds for such a call, on all ranks.
  Evidence word(const Call& call) {
    std::vector<Evidence> words;
    for (EvidenceTable& table : tables) {
      table.pass({kBroadcast, 1, ncclFloat});
      words.push_back(table.see(call, true).word);
    }
    EXPECT_EQ(words[0], words[1]);
    return words[0];
  }
};

// What `call` is, seen in plausible samples, and beside what else.
Evidence outcome(
    const Call& call, bool in_place, Profile profile = Profile::kAuto,
    const std::function<void(Ranks&)>& beside = [](Ranks&) {}) {
  Ranks ranks(profile);
  beside(ranks);
  ranks.see(call, in_place);
  ranks.agree();
  return ranks.word(call);
}

TEST(OverlayEvidence, GradientsAreKnownByTheirReduction) {
  for (const bool in_place : {false, true}) {
    EXPECT_EQ(outcome(kScatterAvg, in_place), Evidence::kPromoted);
    EXPECT_EQ(outcome(kScatterScaled, in_place), Evidence::kPromoted);
    EXPECT_EQ(outcome(kAvg, in_place), Evidence::kPromoted);
    EXPECT_EQ(outcome(kSum, in_place), Evidence::kNone) << "DDP, and activations: a rule's matter";
  }
  EXPECT_EQ(outcome(kScatterSum, true), Evidence::kPromoted);
  EXPECT_EQ(outcome(kScatterSum, false), Evidence::kNone) << "FSDP1, and sequence parallelism";
}

TEST(OverlayEvidence, WeightsAreKnownByTheGradientsBesideThem) {
  const auto with_gradients = [](Ranks& ranks) { ranks.see(kScatterAvg, false); };
  const auto with_activations = [](Ranks& ranks) { ranks.see(kScatterSum, false); };
  const auto with_all_reduce = [](Ranks& ranks) { ranks.see(kAvg, true); };
  const auto with_bad_gradients = [](Ranks& ranks) {
    ranks.see(kScatterAvg, false, Content::kImplausible);
  };
  EXPECT_EQ(outcome(kWeightGather, true), Evidence::kNone);
  EXPECT_EQ(outcome(kWeightGather, true, Profile::kAuto, with_gradients), Evidence::kPromoted);
  EXPECT_EQ(outcome(kWeightGather, false, Profile::kAuto, with_gradients), Evidence::kNone);
  EXPECT_EQ(outcome(kWeightGather, true, Profile::kAuto, with_activations), Evidence::kNone);
  EXPECT_EQ(outcome(kWeightGather, true, Profile::kAuto, with_all_reduce), Evidence::kNone);
  EXPECT_EQ(outcome(kWeightGather, true, Profile::kAuto, with_bad_gradients), Evidence::kNone);
}

TEST(OverlayEvidence, WeightsAreKnownByGradientsThatARuleNames) {
  const auto beside = [](const Call& call, bool on_all, bool ruled = true) {
    return outcome(kWeightGather, true, Profile::kAuto, [&](Ranks& ranks) {
      ranks.tables[0].pass(call, ruled);
      ranks.tables[1].pass(call, ruled && on_all);
    });
  };
  EXPECT_EQ(beside(kScatterSum, true), Evidence::kPromoted);
  EXPECT_EQ(beside(kScatterSum, false), Evidence::kNone) << "not on one rank's word";
  EXPECT_EQ(beside(kScatterSum, true, false), Evidence::kNone);
  EXPECT_EQ(beside(kSum, true), Evidence::kNone) << "as without a rule";
  const auto zeropp = outcome(kWeightGather, true, Profile::kZeropp,
                              [](Ranks& ranks) { ranks.see(kScatterAvg, false); });
  EXPECT_EQ(zeropp, Evidence::kNone);
}

TEST(OverlayEvidence, AllRanksMustBeConvincedAndOneMayObject) {
  const auto word = [](Profile profile, Content first, Content second, int times = 3) {
    Ranks ranks(profile);
    ranks.see(kScatterAvg, false, first, second, times);
    ranks.agree();
    return ranks.word(kScatterAvg);
  };
  using enum Content;
  EXPECT_EQ(word(Profile::kAuto, kPlausible, kPlausible, 2), Evidence::kNone) << "too few";
  EXPECT_EQ(word(Profile::kAuto, kPlausible, kNothing), Evidence::kNone);
  EXPECT_EQ(word(Profile::kAuto, kNothing, kPlausible), Evidence::kNone);
  EXPECT_EQ(word(Profile::kAuto, kPlausible, kImplausible), Evidence::kDemoted);
  EXPECT_EQ(word(Profile::kAuto, kImplausible, kPlausible, 1), Evidence::kDemoted);
  EXPECT_EQ(word(Profile::kZeropp, kNothing, kNothing), Evidence::kNone);
  EXPECT_EQ(word(Profile::kZeropp, kPlausible, kPlausible), Evidence::kNone) << "nothing to add";
  EXPECT_EQ(word(Profile::kZeropp, kPlausible, kImplausible), Evidence::kDemoted);
}

TEST(OverlayEvidence, AnObjectionStays) {
  Ranks ranks(Profile::kAuto);
  ranks.see(kScatterAvg, false);
  ranks.agree();
  EXPECT_EQ(ranks.word(kScatterAvg), Evidence::kPromoted);
  ranks.see(kScatterAvg, false, Content::kPlausible, Content::kImplausible, 1);
  EXPECT_EQ(ranks.word(kScatterAvg), Evidence::kPromoted) << "not before the ranks have agreed";
  ranks.agree();
  EXPECT_EQ(ranks.word(kScatterAvg), Evidence::kDemoted);
  ranks.see(kScatterAvg, false);
  ranks.agree();
  EXPECT_EQ(ranks.word(kScatterAvg), Evidence::kDemoted);
}

TEST(OverlayEvidence, WhatIsNoLongerInPlaceIsNoLongerPromoted) {
  Ranks ranks(Profile::kAuto);
  ranks.see(kScatterSum, true);
  ranks.agree();
  EXPECT_EQ(ranks.word(kScatterSum), Evidence::kPromoted);
  for (EvidenceTable& table : ranks.tables) {  // another kind: after another call
    (void)table.see(kScatterSum, &table == &ranks.tables[0]);
  }
  ranks.see(kScatterSum, true);
  ranks.agree();
  EXPECT_EQ(ranks.word(kScatterSum), Evidence::kPromoted);
  for (EvidenceTable& table : ranks.tables) {
    table.pass({kBroadcast, 1, ncclFloat});
    (void)table.see(kScatterSum, &table == &ranks.tables[1]);
  }
  ranks.agree();
  EXPECT_EQ(ranks.word(kScatterSum), Evidence::kNone) << "one rank's say is enough";
  EXPECT_THAT(ranks.tables[0].to_text({0, Evidence::kPromoted, Evidence::kNone}),
              HasSubstr("is exact from here on: not always in place any more"));
}

TEST(OverlayEvidence, KindsDifferByCallAndByTheCallBefore) {
  EvidenceTable table(Profile::kAuto);
  const auto kind_after = [&](const Call& before, const Call& call) {
    table.pass(before);
    return table.see(call, true).kind;
  };
  const size_t first = table.see(kWeightGather, true).kind;
  EXPECT_NE(kind_after(kSum, kWeightGather), first);
  EXPECT_EQ(kind_after(kSum, kWeightGather), kind_after(kSum, kWeightGather));
  EXPECT_NE(kind_after(kAvg, kWeightGather), kind_after(kSum, kWeightGather));
  EXPECT_NE(kind_after(kSum, kSum), kind_after(kSum, kAvg));
  EXPECT_NE(kind_after(kSum, kSum), kind_after(kSum, {kAllReduce, 4000, ncclBfloat16}));
  EXPECT_NE(kind_after(kSum, kSum), kind_after(kSum, {kAllReduce, 4001, ncclFloat}));
  EXPECT_EQ(kind_after(kSum, kScatterScaled),
            kind_after(kSum, {kReduceScatter, 4000, ncclFloat, static_cast<ncclRedOp_t>(10)}))
      << "torch makes the operation anew for every call";
  EXPECT_EQ(kind_after({kAllReduce, 5, ncclFloat}, kWeightGather),
            kind_after({kAllReduce, 6, ncclFloat}, kWeightGather))
      << "the sizes of exact calls may change with every batch";
  const size_t after_many = table.see(kWeightGather, true).kind;
  (void)table.see({kAllGather, 5000, ncclBfloat16}, true);
  EXPECT_NE(table.see(kWeightGather, true).kind, after_many) << "those of others do not";
  EXPECT_EQ(to_text(table.kind(first)), "all_gather of 4000 x bf16 after nothing");
  EXPECT_EQ(to_text(table.kind(after_many)),
            "all_gather of 4000 x bf16 after all_gather of 4000 x bf16");
  EXPECT_EQ(to_text(table.kind(kind_after(kSum, kAvg))),
            "all_reduce of 4000 x fp32, avg after all_reduce of any number of fp32, sum");
}

TEST(OverlayEvidence, TooManyKindsShareAPlaceThatIsNeverPromoted) {
  Ranks ranks(Profile::kAuto);
  Call call = kScatterAvg;
  for (size_t i = 0; i < EvidenceTable::kMostKinds + 5; ++i) {
    call.count = 4000 + i;
    ranks.see(call, true);
  }
  ranks.agree();
  EXPECT_EQ(ranks.tables[0].size(), EvidenceTable::kMostKinds);
  EXPECT_EQ(ranks.word(kScatterAvg), Evidence::kPromoted);
  EXPECT_EQ(ranks.word(call), Evidence::kNone);
  ranks.see(call, true, Content::kImplausible);
  ranks.agree();
  --call.count;
  EXPECT_EQ(ranks.word(call), Evidence::kDemoted) << "all of them";
  EXPECT_EQ(ranks.word(kScatterAvg), Evidence::kPromoted);
}

TEST(OverlayEvidence, SamplesAreWantedOftenAtFirst) {
  EvidenceTable table(Profile::kAuto);
  std::vector<int> wanted;
  for (int i = 1; i <= 40; ++i) {
    table.pass(kAvg);
    if (table.see(kWeightGather, true).wants_a_sample) wanted.push_back(i);
  }
  EXPECT_THAT(wanted, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 16, 32));
}

TEST(OverlayEvidence, NoMoreSamplesOfWhatIsDemoted) {
  Ranks ranks(Profile::kZeropp);
  ranks.see(kWeightGather, true, Content::kImplausible, Content::kNothing, 1);
  const auto wants = [&](size_t rank) {
    ranks.tables[rank].pass({kBroadcast, 1, ncclFloat});
    return ranks.tables[rank].see(kWeightGather, true).wants_a_sample;
  };
  for (const size_t rank : {0, 1}) EXPECT_TRUE(wants(rank)) << "before the ranks have agreed";
  ranks.agree();
  for (const size_t rank : {0, 1}) EXPECT_FALSE(wants(rank));
}

TEST(OverlayEvidence, TooManyKindsAreSaidOnce) {
  EvidenceTable table(Profile::kAuto);
  for (uint64_t i = 0; i + 1 < EvidenceTable::kMostKinds; ++i) {
    table.pass(kSum);
    (void)table.see({kAllGather, 4000 + i, ncclFloat}, true);
    EXPECT_EQ(table.overflow(), "");
  }
  (void)table.see({kAllGather, 1, ncclFloat}, true);
  EXPECT_THAT(table.overflow(), HasSubstr("more than 255 kinds"));
  EXPECT_EQ(table.overflow(), "");
}

TEST(OverlayEvidence, PointsOfAgreementAreTheSameForAll) {
  std::vector<uint64_t> snapshots, outcomes;
  EvidenceTable table(Profile::kAuto);
  for (uint64_t number = 1; number <= 13000; ++number) {
    const Duty duty = table.next_call();
    EXPECT_EQ(duty, duty_at(number));
    if (duty.takes_snapshot) snapshots.push_back(number);
    if (duty.needs_outcome) outcomes.push_back(number);
  }
  EXPECT_THAT(snapshots, ElementsAre(64, 128, 256, 512, 1024, 2048, 4096, 8192, 12288));
  EXPECT_THAT(outcomes, ElementsAre(128, 256, 512, 1024, 2048, 4096, 8192, 12288));
}

TEST(OverlayEvidence, ASnapshotSpeaksOfItsPointOnly) {
  Ranks ranks(Profile::kAuto);
  ranks.see(kScatterAvg, false);
  const std::vector<std::vector<std::byte>> words{ranks.tables[0].snapshot(),
                                                  ranks.tables[1].snapshot()};
  ranks.see(kAvg, false);
  const auto changes = ranks.tables[0].apply(words);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_THAT(
      ranks.tables[0].to_text(changes[0]),
      HasSubstr("reduce_scatter of 4000 x fp32, avg after broadcast of any number of fp32: is "
                "compressed from here on"));
  EXPECT_EQ(ranks.tables[0].see(kScatterAvg, false).word, Evidence::kNone) << "after kAvg";
  ranks.tables[0].pass({kBroadcast, 1, ncclFloat});
  EXPECT_EQ(ranks.tables[0].see(kAvg, false).word, Evidence::kNone) << "came later";
}

TEST(OverlayEvidence, RanksOfOtherCallsAreNamed) {
  const auto error_of = [](EvidenceTable& table, const std::vector<std::vector<std::byte>>& words) {
    try {
      (void)table.apply(words);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EvidenceTable mine(Profile::kAuto), other(Profile::kAuto), more(Profile::kAuto);
  (void)mine.see(kWeightGather, true);
  (void)other.see(kAvg, true);
  EXPECT_THAT(error_of(mine, {mine.snapshot(), other.snapshot()}),
              HasSubstr("rank 1 has made other calls"));
  EXPECT_THAT(error_of(mine, {mine.snapshot(), more.snapshot()}),
              HasSubstr("rank 1 has made other calls than rank 0"));
  EXPECT_THAT(error_of(more, {mine.snapshot()}), HasSubstr("rank 0 has made other calls"));
  EXPECT_THAT(error_of(mine, {mine.snapshot(), {}}), HasSubstr("rank 1's evidence is cut short"));
  EXPECT_EQ(error_of(mine, {mine.snapshot(), mine.snapshot()}), "no error");
  // The same kinds, but not as often, or beside other exact calls.
  (void)mine.see(kWeightGather, true);
  EvidenceTable twice = mine;
  EXPECT_EQ(error_of(mine, {mine.snapshot(), twice.snapshot()}), "no error");
  (void)twice.see(kWeightGather, true);
  EXPECT_EQ(mine.size(), twice.size());
  EXPECT_THAT(error_of(mine, {mine.snapshot(), twice.snapshot()}),
              HasSubstr("rank 1 has made other calls than rank 0, or in another order; "
                        "SLIMCCL_CHECK=1"));
  EvidenceTable passed = mine;
  passed.pass({kBroadcast, 5, ncclFloat});
  mine.pass({kBroadcast, 6, ncclFloat});
  EXPECT_THAT(error_of(mine, {passed.snapshot(), mine.snapshot()}),
              HasSubstr("rank 1 has made other calls than rank 0"));
}

}  // namespace
}  // namespace slimccl::overlay
