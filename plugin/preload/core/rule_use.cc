#include "core/rule_use.h"

#include "base/error.h"

namespace slimccl::overlay {

void RuleUse::see(std::span<const Rule> rules, const std::string& name, int rank, int ranks) {
  const std::lock_guard lock(mutex_);
  fitted_.resize(rules.size());
  for (size_t i = 0; i < rules.size(); ++i) {
    if (glob_fits(rules[i].comm, name)) fitted_[i] = true;
  }
  if (ranks >= most_ranks_) {
    leads_ = rank == 0 || (leads_ && ranks == most_ranks_);
    most_ranks_ = ranks;
  }
  if (names_.size() < kMostNames) {
    names_.insert(name);
  } else if (!names_.contains(name)) {
    more_names_ = true;
  }
}

std::string RuleUse::warning(std::span<const Rule> rules) const {
  const std::lock_guard lock(mutex_);
  if (!leads_) return "";
  std::vector<Rule> idle;
  for (size_t i = 0; i < fitted_.size(); ++i) {
    if (!fitted_[i]) idle.push_back(rules[i]);
  }
  if (idle.empty()) return "";
  std::string names;
  for (const std::string& name : names_) {
    names += concat(names.empty() ? "" : ", ", name.empty() ? "(no name)" : name);
  }
  return concat("SLIMCCL_RULES: of this process's communicators so far none is named as in \"",
                to_text(idle), "\", so that this decides nothing here; they are named ", names,
                more_names_ ? ", ..." : "");
}

}  // namespace slimccl::overlay
