// Rules from TOML. A file of its own, for toml++ takes the compiler long.
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include "base/error.h"
#include "core/rules.h"

namespace slimccl::overlay {
namespace {

std::string words_of(const toml::node& node, std::string_view key) {
  const std::optional<std::string> text = node.value<std::string>();
  check(node.is_string() && text, ncclInvalidUsage, key, " must be a text in quotes");
  return *text;
}

uint64_t number_of(const toml::node& node, std::string_view key) {
  const int64_t number = node.is_integer() ? node.value_or(int64_t{-1}) : -1;
  check(number >= 0, ncclInvalidUsage, key, " must be a whole number >= 0");
  return static_cast<uint64_t>(number);
}

void set(Rule& rule, std::string_view key, const toml::node& value) {
  if (key == "treat") {
    rule.treat = treat_from_name(words_of(value, key));
  } else if (key == "comm") {
    rule.comm = words_of(value, key);
  } else if (key == "op") {
    rule.op = rule_operation(words_of(value, key));
  } else if (key == "type") {
    rule.type = rule_type(words_of(value, key));
  } else if (key == "min_elems") {
    rule.min_elems = number_of(value, key);
  } else if (key == "max_elems") {
    rule.max_elems = number_of(value, key);
  } else {
    throw Error(ncclInvalidUsage,
                concat("unknown key \"", key,
                       "\": a rule has treat, comm, op, type, min_elems and max_elems"));
  }
}

// An error's text with the place before it.
[[noreturn]] void bad(const std::string& file, const toml::source_region& where,
                      std::string_view what) {
  throw Error(ncclInvalidUsage, concat("SLIMCCL_RULES: ", file, ":", where.begin.line, ": ", what));
}

Rule rule_from_table(const toml::table& table, const std::string& file) {
  Rule rule;
  for (const auto& [key, value] : table) {
    try {
      set(rule, key.str(), value);
    } catch (const Error& error) {
      bad(file, value.source(), error.what());
    }
  }
  if (!table.contains("treat")) {
    bad(file, table.source(), "the rule has no treat: expected exact, weights or gradients");
  }
  if (rule.min_elems > rule.max_elems) {
    bad(file, table.source(),
        concat("min_elems ", rule.min_elems, " is above max_elems ", rule.max_elems,
               ": no call would fit"));
  }
  return rule;
}

}  // namespace

std::vector<Rule> rules_from_toml(std::string_view text, const std::string& file) {
  toml::table document;
  try {
    document = toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    bad(file, error.source(), concat("this is not TOML: ", error.description()));
  }
  std::vector<Rule> rules;
  for (const auto& [key, value] : document) {
    const toml::array* const tables = value.as_array();
    if (key.str() != "rule" || tables == nullptr) {
      bad(file, value.source(), concat("\"", key.str(), "\" is not [[rule]]: only rules go here"));
    }
    for (const toml::node& item : *tables) {
      const toml::table* const table = item.as_table();
      if (table == nullptr) bad(file, item.source(), "a rule is a table: write [[rule]] above it");
      rules.push_back(rule_from_table(*table, file));
    }
  }
  return rules;
}

}  // namespace slimccl::overlay
