// Settings: every row of the table parses its own default, and bad values are refused by name and
// value.
#include "base/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <map>

#include "base/error.h"

namespace slimccl {
namespace {

Config parse(const std::map<std::string, std::string>& variables) {
  return parse_config([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

std::string refusal(const std::string& variable, const std::string& value) {
  try {
    (void)parse({{variable, value}});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ncclInvalidUsage);
    return error.what();
  }
  return "accepted";
}

TEST(Config, AnEmptyEnvironmentGivesTheDefaults) {
  const Config config = parse({});
  EXPECT_EQ(config.profile, "exact");
  EXPECT_EQ(config.floor_elems, 65536u);
  EXPECT_EQ(config.log_level, "notice");
}

TEST(Config, ValuesAreTaken) {
  const Config config = parse({{"SLIMCCL_PROFILE", "zeropp"},
                               {"SLIMCCL_FLOOR", "0"},
                               {"SLIMCCL_TIMEOUT_S", "2.5"},
                               {"SLIMCCL_EXPLAIN", "1"},
                               {"SLIMCCL_WINDOW", "64"}});
  EXPECT_EQ(parse({{"SLIMCCL_PROFILE", "audit"}}).profile, "audit");
  EXPECT_EQ(config.profile, "zeropp");
  EXPECT_EQ(config.floor_elems, 0u);
  EXPECT_EQ(config.timeout_s, 2.5);
  EXPECT_TRUE(config.explain);
  EXPECT_EQ(config.window, 64u);
}

TEST(Config, AFileNameIsMadeTheProcesssOwn) {
  EXPECT_EQ(expand_path("/tmp/%p-%h.json"), concat("/tmp/", getpid(), "-", host_name(), ".json"));
  EXPECT_EQ(expand_path("100%%, %q, %"), "100%, q, %");
}

TEST(Config, BadValuesAreRefusedByNameAndValue) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"SLIMCCL_PROFILE", "fast"},  {"SLIMCCL_FLOOR", "-1"},       {"SLIMCCL_FLOOR", "12x"},
      {"SLIMCCL_FLOOR", ""},        {"SLIMCCL_TIMEOUT_S", "0"},    {"SLIMCCL_TIMEOUT_S", "x"},
      {"SLIMCCL_TIMEOUT_S", "inf"}, {"SLIMCCL_TIMEOUT_S", "1e10"}, {"SLIMCCL_EXPLAIN", "2"},
      {"SLIMCCL_WINDOW", "65"},     {"SLIMCCL_WINDOW", "0"},       {"SLIMCCL_SEGMENT", "0"},
      {"SLIMCCL_LOG", "verbose"},   {"SLIMCCL_NET_GBITS", "nan"}};
  for (const auto& [variable, value] : bad) {
    const std::string text = refusal(variable, value);
    EXPECT_NE(text.find(variable), std::string::npos) << variable << "=" << value << ": " << text;
    EXPECT_NE(text.find("\"" + value + "\""), std::string::npos) << text;
  }
}

TEST(Config, UnknownVariablesGetTheNearestName) {
  const auto warnings = unknown_settings(
      {"SLIMCCL_PROFIL", "SLIMCCL_FLOOR", "PATH", "SLIMCCL_TEST_DATA", "SLIMCCL_RUN"});
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("did you mean SLIMCCL_PROFILE"), std::string::npos) << warnings[0];
}

}  // namespace
}  // namespace slimccl
