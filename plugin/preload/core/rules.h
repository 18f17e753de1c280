// Rules: what a program's calls carry, in the user's own words. The first that fits a call decides.
// Pure, but for reading the file; the same on all ranks, or the communicator is exact.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/counts.h"
#include "slimccl/nccl.h"

namespace slimccl::overlay {

// How a call is taken: never compressed; or as weights, eight bits an element; or as gradients,
// whose sums between nodes travel in four.
enum class Treat : uint8_t { kExact, kWeights, kGradients };
[[nodiscard]] std::string_view name(Treat treat);

struct Rule {
  Treat treat = Treat::kExact;
  std::string comm = "*";  // of the communicator's name: '*' any text, '?' any one character
  std::optional<Operation> op{};
  std::optional<ncclDataType_t> type{};
  uint64_t min_elems = 0, max_elems = UINT64_MAX;  // per rank, as the floor counts

  bool operator==(const Rule&) const = default;
};

// The value of SLIMCCL_RULES: rules themselves if there is a '=' in it, else the path of a TOML
// file. All three throw Error that says where, what, and what would be right.
[[nodiscard]] std::vector<Rule> read_rules(const std::string& setting);
// "tp*=exact; dp_shard*:reduce_scatter:bf16=gradients": COMM[:OP[:TYPE]]=TREAT, joined by ';'.
[[nodiscard]] std::vector<Rule> rules_from_line(std::string_view text);
// [[rule]] tables with treat, comm, op, type, min_elems and max_elems. `file` is for errors.
[[nodiscard]] std::vector<Rule> rules_from_toml(std::string_view text, const std::string& file);

// Rules that decide alike have equal texts.
[[nodiscard]] std::string to_text(std::span<const Rule> rules);
// As short as a word, for the set-up record: "none", or how many and a digest of their text.
[[nodiscard]] std::string digest(std::span<const Rule> rules);

[[nodiscard]] bool glob_fits(std::string_view pattern, std::string_view text);
// Null: no rule fits.
[[nodiscard]] const Rule* first_rule(std::span<const Rule> rules, std::string_view comm,
                                     Operation op, ncclDataType_t type, uint64_t elems_per_rank);

// What the words of a rule mean; throw Error that lists the right ones. For both readers.
[[nodiscard]] Treat treat_from_name(std::string_view name);
[[nodiscard]] Operation rule_operation(std::string_view name);
[[nodiscard]] ncclDataType_t rule_type(std::string_view name);

}  // namespace slimccl::overlay
