#include "base/config.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/variant.h"

extern char** environ;

namespace slimccl {
namespace {

[[noreturn]] void bad(std::string_view variable, std::string_view value,
                      std::string_view expected) {
  throw Error(ncclInvalidUsage, concat(variable, "=\"", value, "\" is not usable: expected ",
                                       expected, "; correct or unset it"));
}

void parse(std::string_view, std::string_view value, std::string& into) { into = value; }

void parse(std::string_view variable, std::string_view value, uint64_t& into) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), into);
  if (error != std::errc() || end != value.data() + value.size())
    bad(variable, value, "a whole number >= 0");
}

void parse(std::string_view variable, std::string_view value, double& into) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), into);
  constexpr double kMost = 1e9;  // as seconds a time that a clock can hold
  if (error != std::errc() || end != value.data() + value.size() || !(into > 0 && into <= kMost)) {
    bad(variable, value, "a number > 0, and 1e9 at most");
  }
}

void parse(std::string_view variable, std::string_view value, bool& into) {
  if (value == "1" || value == "on" || value == "true") {
    into = true;
  } else if (value == "0" || value == "off" || value == "false") {
    into = false;
  } else {
    bad(variable, value, "0 or 1");
  }
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = diagonal + (a[i - 1] != b[j - 1] ? 1 : 0);
      diagonal = row[j];
      row[j] = std::min({replace, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

Config read_process_environment() {
  return parse_config([](const char* variable) {
    return environment_variable(concat(variant().settings_prefix, variable).c_str());
  });
}

}  // namespace

std::vector<SettingInfo> all_settings() {
#define SLIMCCL_INFO(type, field, variable, standard, help) \
  SettingInfo{variable, #type, #standard, help},
  return {SLIMCCL_SETTINGS(SLIMCCL_INFO)};
#undef SLIMCCL_INFO
}

Config parse_config(const Environment& environment) {
  Config config;
#define SLIMCCL_PARSE(type, field, variable, standard, help) \
  if (const char* text = environment(variable)) parse(variable, text, config.field);
  SLIMCCL_SETTINGS(SLIMCCL_PARSE)
#undef SLIMCCL_PARSE
  const std::string_view profiles[] = {"exact", "audit", "auto", "zeropp"};
  if (std::ranges::find(profiles, config.profile) == std::end(profiles)) {
    bad("SLIMCCL_PROFILE", config.profile, "exact, zeropp, audit or auto");
  }
  const std::string_view levels[] = {"none", "warn", "notice", "info", "debug"};
  if (std::ranges::find(levels, config.log_level) == std::end(levels)) {
    bad("SLIMCCL_LOG", config.log_level, "none, warn, notice, info or debug");
  }
  if (config.staging_mb == 0 || config.staging_mb > 1 << 20) {
    bad("SLIMCCL_STAGING_MB", std::to_string(config.staging_mb), "1 to 1048576 MiB");
  }
  if (config.arena_mb == 0 || config.arena_mb > 1 << 20) {
    bad("SLIMCCL_ARENA_MB", std::to_string(config.arena_mb), "1 to 1048576 MiB");
  }
  if (config.segment_elems == 0) bad("SLIMCCL_SEGMENT", "0", "a number of elements > 0");
  if (config.window == 0 || config.window > 64) {
    bad("SLIMCCL_WINDOW", std::to_string(config.window), "1 to 64 segments");
  }
  return config;
}

// Variables of ./dev and the tests, which programs under them inherit.
static bool is_of_the_tools(std::string_view name) {
  for (const std::string_view family : {"SLIMCCL_TEST_", "SLIMCCL_EMULATED_", "SLIMCCL_SOAK_"}) {
    if (name.starts_with(family)) return true;
  }
  // SLIMCCL_RUN is slimccl-run's word to its hooks.
  return name == "SLIMCCL_ROOT" || name == "SLIMCCL_BUILD" || name == "SLIMCCL_CACHE" ||
         name == "SLIMCCL_RUN";
}

std::vector<std::string> unknown_settings(const std::vector<std::string>& names) {
  std::vector<std::string> warnings;
  const auto known = all_settings();
  for (const std::string& name : names) {
    if (!name.starts_with("SLIMCCL_")) continue;
    if (is_of_the_tools(name)) continue;
    const auto distance = [&](const SettingInfo& info) {
      return edit_distance(name, info.variable);
    };
    const auto nearest = std::ranges::min_element(known, {}, distance);
    if (nearest->variable != name) {
      warnings.push_back(concat(name, " is not a setting and has no effect; did you mean ",
                                nearest->variable, "?"));
    }
  }
  return warnings;
}

const Config& config() {
  // Never destroyed: threads may read it while the process exits.
  static const auto* const value = new Config(read_process_environment());
  return *value;
}

std::vector<std::string> environment_names() {
  const std::string_view prefix = variant().settings_prefix;
  std::vector<std::string> names;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry, name = text.substr(0, text.find('='));
    if (name.starts_with(prefix)) names.emplace_back(name.substr(prefix.size()));
  }
  return names;
}

const char* environment_variable(const char* name) noexcept { return std::getenv(name); }

void set_environment_variable(const char* name, const char* value) noexcept {
  (void)setenv(name, value, 0);
}

std::string host_name() {
  std::array<char, 256> text{};
  if (gethostname(text.data(), text.size() - 1) != 0) return "?";
  return text.data();
}

std::string expand_path(std::string_view pattern) {
  std::string path;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%' || i + 1 == pattern.size()) {
      path += pattern[i];
    } else if (const char key = pattern[++i]; key == 'h') {
      path += host_name();
    } else if (key == 'p') {
      path += std::to_string(getpid());
    } else {
      path += key;
    }
  }
  return path;
}

}  // namespace slimccl
