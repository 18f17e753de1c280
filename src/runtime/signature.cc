#include "runtime/signature.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "quant/codec.h"
#include "runtime/rendezvous_session.h"
#include "runtime/wire_tag.h"

namespace slimccl::runtime {

using collectives::Collective;

Signature signature_of(const collectives::Shape& shape, uint64_t number) {
  return {number,
          shape.count,
          static_cast<uint32_t>(shape.op),
          static_cast<uint32_t>(shape.type),
          static_cast<uint32_t>(reduction_code(shape)),
          static_cast<uint32_t>(has_root(shape.op) ? shape.root : 0)};
}

std::string to_text(const Signature& signature) {
  static constexpr std::string_view kReductions[] = {"sum",  "avg", "PreMulSum", "avg",
                                                     "prod", "max", "min"};
  const auto op = static_cast<Collective>(signature.op);
  std::string text = concat("call ", signature.number, ": ", name(op), " of ", signature.count,
                            " x ", quant::type_name(static_cast<ncclDataType_t>(signature.type)));
  if (is_reduction(op)) text += concat(", ", kReductions[signature.reduction]);
  if (has_root(op)) text += concat(", root ", signature.root);
  return text;
}

std::string who_says_what(std::span<const std::string> by_rank) {
  std::vector<std::pair<std::string, std::vector<int>>> groups;
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    if (by_rank[rank].empty()) continue;
    auto found = std::ranges::find(groups, by_rank[rank], [](auto& group) { return group.first; });
    if (found == groups.end()) found = groups.insert(groups.end(), {by_rank[rank], {}});
    found->second.push_back(static_cast<int>(rank));
  }
  std::string text;
  for (const auto& [what, ranks] : groups) {
    text += concat(text.empty() ? "" : "; ", list_ranks(ranks), ": ", what);
  }
  return text;
}

std::string disagreement(std::span<const Signature> by_rank) {
  if (std::ranges::all_of(by_rank, [&](const auto& each) { return each == by_rank.front(); }))
    return "";
  std::vector<std::string> texts;
  for (const Signature& signature : by_rank) texts.push_back(to_text(signature));
  return who_says_what(texts);
}

}  // namespace slimccl::runtime
