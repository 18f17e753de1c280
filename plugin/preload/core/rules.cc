#include "core/rules.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "quant/codec.h"

namespace slimccl::overlay {
namespace {

constexpr std::string_view kTreats[] = {"exact", "weights", "gradients"};
constexpr Operation kRuledOps[] = {Operation::kAllGather, Operation::kReduceScatter,
                                   Operation::kAllReduce};
constexpr ncclDataType_t kRuledTypes[] = {ncclFloat32, ncclBfloat16, ncclFloat16};

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == text.npos) return "";
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// Cuts the text before `separator` off the front of `rest`.
std::string_view next_part(std::string_view& rest, char separator) {
  const std::string_view part = rest.substr(0, rest.find(separator));
  rest.remove_prefix(std::min(rest.size(), part.size() + 1));
  return trimmed(part);
}

Rule rule_from_item(std::string_view item) {
  const size_t equals = item.find('=');
  check(equals != item.npos, ncclInvalidUsage,
        "expected COMM[:OP[:TYPE]]=TREAT, e.g. tp*=exact or dp*:reduce_scatter=gradients");
  std::string_view match = item.substr(0, equals);
  Rule rule{.treat = treat_from_name(trimmed(item.substr(equals + 1)))};
  rule.comm = next_part(match, ':');
  check(!rule.comm.empty(), ncclInvalidUsage,
        "no communicator is named before '='; \"*\" is all of them");
  if (const auto op = next_part(match, ':'); !op.empty() && op != "*") rule.op = rule_operation(op);
  if (const auto type = next_part(match, ':'); !type.empty()) rule.type = rule_type(type);
  check(match.empty(), ncclInvalidUsage, "\"", match,
        "\" is too much before '='; more than COMM:OP:TYPE needs a file");
  return rule;
}

}  // namespace

std::string_view name(Treat treat) { return kTreats[static_cast<size_t>(treat)]; }

Treat treat_from_name(std::string_view name) {
  const auto* const found = std::ranges::find(kTreats, name);
  check(found != std::end(kTreats), ncclInvalidUsage, "nothing is treated as \"", name,
        "\": expected exact, weights or gradients");
  return static_cast<Treat>(found - std::begin(kTreats));
}

Operation rule_operation(std::string_view name) {
  for (const Operation op : kRuledOps) {
    if (overlay::name(op) == name) return op;
  }
  throw Error(ncclInvalidUsage, concat("no rule is for operation \"", name,
                                       "\": expected all_gather, reduce_scatter or all_reduce "
                                       "(all others are exact)"));
}

ncclDataType_t rule_type(std::string_view name) {
  for (const ncclDataType_t type : kRuledTypes) {
    if (quant::type_name(type) == name) return type;
  }
  throw Error(ncclInvalidUsage, concat("no rule is for type \"", name,
                                       "\": expected fp32, bf16 or fp16 (all others are exact)"));
}

std::vector<Rule> rules_from_line(std::string_view text) {
  std::vector<Rule> rules;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view item = next_part(rest, ';');
    if (item.empty()) continue;
    try {
      rules.push_back(rule_from_item(item));
    } catch (const Error& error) {
      throw Error(ncclInvalidUsage, concat("SLIMCCL_RULES: rule \"", item, "\": ", error.what()));
    }
  }
  return rules;
}

std::vector<Rule> read_rules(const std::string& setting) {
  if (setting.find('=') != setting.npos) return rules_from_line(setting);
  if (trimmed(setting).empty()) return {};
  std::ifstream file(setting, std::ios::binary);
  std::stringstream text;
  check(file && text << file.rdbuf(), ncclInvalidUsage, "SLIMCCL_RULES: the file \"", setting,
        "\" cannot be read, or is empty; give a TOML file that is there on every node, or rules "
        "such as \"tp*=exact\"");
  return rules_from_toml(text.str(), setting);
}

std::string to_text(std::span<const Rule> rules) {
  std::string text;
  for (const Rule& rule : rules) {
    text += concat(text.empty() ? "" : "; ", rule.comm, ":", rule.op ? name(*rule.op) : "*", ":",
                   rule.type ? quant::type_name(*rule.type) : "*");
    if (rule.min_elems > 0) text += concat(" from ", rule.min_elems);
    if (rule.max_elems < UINT64_MAX) text += concat(" to ", rule.max_elems);
    text += concat("=", name(rule.treat));
  }
  return text;
}

std::string digest(std::span<const Rule> rules) {
  if (rules.empty()) return "none";
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : to_text(rules)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  std::ostringstream text;
  text << rules.size() << "/" << std::hex << hash;
  return text.str();
}

bool glob_fits(std::string_view pattern, std::string_view text) {
  // Where to go on if the text does not fit: the last star takes one more character.
  size_t at = 0, read = 0, star = pattern.npos, taken = 0;
  while (read < text.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      taken = read;
    } else if (at < pattern.size() && (pattern[at] == '?' || pattern[at] == text[read])) {
      ++at;
      ++read;
    } else if (star != pattern.npos) {
      at = star + 1;
      read = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', at) == pattern.npos;
}

const Rule* first_rule(std::span<const Rule> rules, std::string_view comm, Operation op,
                       ncclDataType_t type, uint64_t elems_per_rank) {
  for (const Rule& rule : rules) {
    if (rule.op.value_or(op) == op && rule.type.value_or(type) == type &&
        rule.min_elems <= elems_per_rank && elems_per_rank <= rule.max_elems &&
        glob_fits(rule.comm, comm)) {
      return &rule;
    }
  }
  return nullptr;
}

}  // namespace slimccl::overlay
