// Which rules have fitted a communicator: one that fits none is most likely misspelt, and what it
// was to keep exact is not.
#pragma once

#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/rules.h"

namespace slimccl::overlay {

// Any thread.
class RuleUse {
 public:
  // A communicator was set up, on whichever nodes; this process is its `rank` of `ranks`.
  void see(std::span<const Rule> rules, const std::string& name, int rank, int ranks);
  // A warning that tells the rules that fit no communicator so far, and the names that there are.
  // Empty if all fit one, and in processes that are rank 0 of none of the largest.
  [[nodiscard]] std::string warning(std::span<const Rule> rules) const;

 private:
  static constexpr size_t kMostNames = 16;  // to tell

  mutable std::mutex mutex_;
  std::vector<bool> fitted_;  // by rule
  std::set<std::string> names_;
  bool more_names_ = false;
  int most_ranks_ = 0;
  bool leads_ = false;
};

}  // namespace slimccl::overlay
