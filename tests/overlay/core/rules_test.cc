// Rules: what both readers take, what they refuse and how they say it, and which rule fits a call.
#include "core/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "core/rule_use.h"

namespace slimccl::overlay {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ncclInvalidUsage);
    return error.what();
  }
  return "no error";
}

TEST(OverlayRules, OneLineHoldsSeveral) {
  EXPECT_THAT(rules_from_line("tp*=exact; dp_shard*:reduce_scatter=gradients ;*:*:fp32 = weights;"),
              ElementsAre(Rule{Treat::kExact, "tp*"},
                          Rule{Treat::kGradients, "dp_shard*", Operation::kReduceScatter},
                          Rule{Treat::kWeights, "*", std::nullopt, ncclFloat32}));
}

TEST(OverlayRules, AFileHoldsTables) {
  const auto rules = rules_from_toml(R"(
[[rule]]
comm = "tp*"
treat = "exact"
[[rule]]
treat = "gradients"
op = "all_reduce"
type = "bf16"
min_elems = 1000
max_elems = 2_000
)",
                                     "r.toml");
  EXPECT_THAT(rules, ElementsAre(Rule{Treat::kExact, "tp*"},
                                 Rule{Treat::kGradients, "*", Operation::kAllReduce, ncclBfloat16,
                                      1000, 2000}));
  EXPECT_TRUE(rules_from_toml("# none yet\n", "r.toml").empty());
}

TEST(OverlayRules, WrongLinesSayWhatIsRight) {
  const auto error = [](std::string_view line) {
    return error_of([&] { (void)rules_from_line(line); });
  };
  EXPECT_THAT(error("a=exact;tp*=lossy"),
              AllOf(HasSubstr("rule \"tp*=lossy\""), HasSubstr("exact, weights or gradients")));
  EXPECT_THAT(error("tp*:broadcast=exact"), HasSubstr("all_gather, reduce_scatter or all_reduce"));
  EXPECT_THAT(error("tp*:all_gather:int8=exact"), HasSubstr("fp32, bf16 or fp16"));
  EXPECT_THAT(error("tp*:all_gather:bf16:9=exact"), HasSubstr("\"9\" is too much"));
  EXPECT_THAT(error("=exact"), HasSubstr("no communicator is named"));
  EXPECT_THAT(error("x=exact;tp*"), HasSubstr("COMM[:OP[:TYPE]]=TREAT"));
}

TEST(OverlayRules, WrongFilesSayWhereAndWhatIsRight) {
  const auto error = [](std::string_view text) {
    return error_of([&] { (void)rules_from_toml(text, "r.toml"); });
  };
  EXPECT_THAT(error("[[rule]]\ntreat = \"lossy\"\n"),
              AllOf(HasSubstr("r.toml:2:"), HasSubstr("\"lossy\""), HasSubstr("weights")));
  EXPECT_THAT(error("[[rule]]\ntreat = \"exact\"\ncom = \"tp\"\n"),
              AllOf(HasSubstr("r.toml:3:"), HasSubstr("\"com\""), HasSubstr("min_elems")));
  EXPECT_THAT(error("[[rule]]\ncomm = \"tp\"\n"),
              AllOf(HasSubstr("r.toml:1:"), HasSubstr("no treat")));
  EXPECT_THAT(error("[[rule]]\ntreat = 1\n"), HasSubstr("treat must be a text"));
  EXPECT_THAT(error("[[rule]]\ntreat = \"exact\"\nmin_elems = -1\n"),
              AllOf(HasSubstr("r.toml:3:"), HasSubstr("whole number")));
  EXPECT_THAT(error("[[rule]]\ntreat = \"exact\"\nmin_elems = 1.5\n"), HasSubstr("whole number"));
  EXPECT_THAT(error("[[rule]]\ntreat = \"exact\"\nmin_elems = 9\nmax_elems = 8\n"),
              HasSubstr("no call would fit"));
  EXPECT_THAT(error("\n[rules]\n"), AllOf(HasSubstr("r.toml:2:"), HasSubstr("[[rule]]")));
  EXPECT_THAT(error("rule = [1]\n"), HasSubstr("a rule is a table"));
  EXPECT_THAT(error("[[rule]\n"), AllOf(HasSubstr("r.toml:1:"), HasSubstr("not TOML")));
}

TEST(OverlayRules, TheSettingIsALineOrAFile) {
  EXPECT_TRUE(read_rules("").empty());
  EXPECT_EQ(read_rules("tp=exact").size(), 1u);
  EXPECT_THAT(error_of([] { (void)read_rules("/no/such/file.toml"); }),
              AllOf(HasSubstr("SLIMCCL_RULES"), HasSubstr("\"/no/such/file.toml\"")));
  const std::string path = testing::TempDir() + "/slimccl_rules_test.toml";
  std::ofstream(path) << "[[rule]]\ncomm = \"tp\"\ntreat = \"exact\"\n";
  EXPECT_THAT(read_rules(path), ElementsAre(Rule{Treat::kExact, "tp"}));
  std::remove(path.c_str());
}

TEST(OverlayRules, TheDigestIsOfWhatTheRulesSay) {
  EXPECT_EQ(digest({}), "none");
  const auto line = rules_from_line("tp=exact");
  EXPECT_EQ(digest(line), digest(rules_from_toml("rule=[{treat='exact',comm='tp'}]", "")));
  EXPECT_NE(digest(line), digest(rules_from_line("tp=weights")));
  EXPECT_NE(digest(line), digest(rules_from_line("tq=exact")));
  EXPECT_NE(digest(line),
            digest(rules_from_toml("rule=[{treat='exact',comm='tp',min_elems=1}]", "")));
  EXPECT_NE(digest(line),
            digest(rules_from_toml("rule=[{treat='exact',comm='tp',max_elems=1}]", "")));
}

TEST(OverlayRules, GlobsFitWholeNames) {
  for (const auto& [pattern, text] : {std::pair{"*", ""},
                                      {"*", "tp"},
                                      {"tp", "tp"},
                                      {"t?", "tp"},
                                      {"*tp*", "mesh_tp_0"},
                                      {"a*b*c", "aXbbYc"},
                                      {"*a", "baa"}}) {
    EXPECT_TRUE(glob_fits(pattern, text)) << pattern << " " << text;
  }
  for (const auto& [pattern, text] : {std::pair{"", "tp"},
                                      {"tp", "tp0"},
                                      {"tp", "dtp"},
                                      {"?", ""},
                                      {"a*b", "abc"},
                                      {"a*bc", "abb"},
                                      {"TP", "tp"}}) {
    EXPECT_FALSE(glob_fits(pattern, text)) << pattern << " " << text;
  }
}

TEST(OverlayRules, TheFirstThatFitsDecides) {
  const auto rules = rules_from_toml(R"(
rule = [{treat = 'exact', comm = 'dp', max_elems = 99},
        {treat = 'weights', comm = 'dp', op = 'all_gather', type = 'bf16'},
        {treat = 'gradients', comm = 'dp', min_elems = 1000}])",
                                     "");
  const auto decided = [&](std::string_view comm, Operation op, ncclDataType_t type, uint64_t n) {
    const Rule* const rule = first_rule(rules, comm, op, type, n);
    return rule == nullptr ? "none" : std::string(name(rule->treat));
  };
  EXPECT_EQ(decided("dp", Operation::kAllGather, ncclBfloat16, 99), "exact");
  EXPECT_EQ(decided("dp", Operation::kAllGather, ncclBfloat16, 100), "weights");
  EXPECT_EQ(decided("dp", Operation::kAllGather, ncclFloat32, 100), "none");
  EXPECT_EQ(decided("dp", Operation::kReduceScatter, ncclBfloat16, 999), "none");
  EXPECT_EQ(decided("dp", Operation::kReduceScatter, ncclBfloat16, 1000), "gradients");
  EXPECT_EQ(decided("tp", Operation::kAllGather, ncclBfloat16, 5), "none");
}

TEST(OverlayRules, OneThatFitsNoCommunicatorIsTold) {
  const auto rules = rules_from_line("mesh_tp=exact; mesh_dq=exact; *:all_reduce=exact");
  RuleUse use;
  EXPECT_EQ(use.warning(rules), "") << "there is no communicator yet";
  use.see(rules, "mesh_dp", 0, 8);
  use.see(rules, "", 0, 4);
  EXPECT_THAT(use.warning(rules), AllOf(HasSubstr("as in \"mesh_tp:*:*=exact; mesh_dq:*:*=exact\""),
                                        HasSubstr("named (no name), mesh_dp")));
  use.see(rules, "mesh_tp", 3, 4);
  EXPECT_THAT(use.warning(rules), HasSubstr("as in \"mesh_dq:*:*=exact\""));
  use.see(rules, "mesh_dq", 3, 4);
  EXPECT_EQ(use.warning(rules), "");
}

TEST(OverlayRules, OneThatFitsNoCommunicatorIsToldByRankZeroOfTheLargest) {
  const auto rules = rules_from_line("typo=exact");
  RuleUse use;
  use.see(rules, "pair", 0, 2);
  EXPECT_NE(use.warning(rules), "");
  use.see(rules, "world", 4, 8);
  use.see(rules, "pair", 0, 2);
  EXPECT_EQ(use.warning(rules), "");
  use.see(rules, "world", 0, 8);  // another thread of this process is its rank 0
  use.see(rules, "world", 5, 8);
  EXPECT_NE(use.warning(rules), "");
}

TEST(OverlayRules, OfNamesWithoutEndAFewAreTold) {
  const auto rules = rules_from_line("typo=exact");
  RuleUse use;
  for (int i = 0; i < 100; ++i) use.see(rules, concat("group", i), 0, 2);
  const std::string warning = use.warning(rules);
  EXPECT_THAT(warning, testing::EndsWith(", ..."));
  EXPECT_LT(warning.size(), 400u);
}

}  // namespace
}  // namespace slimccl::overlay
