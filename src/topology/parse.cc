// Grammar:  topology := count "x" count  |  count ("+" count)+  |  label ("," label)*  with two or
// more labels. A lone number is refused: it could mean one node of that many, or that many nodes.
#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "topology/topology.h"

namespace slimccl::topology {
namespace {

constexpr int kMaxRanks = 1 << 20;  // keeps a slip such as "100000x100000" from eating the memory

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw Error(ncclInvalidArgument,
              concat("topology \"", text, "\" is not understood: ", why,
                     "; write nodes x ranks of each (\"2x4\"), ranks of each node (\"3+1\"), or "
                     "the node of each rank (\"0,1,0,1\")"));
}

std::vector<int> numbers(std::string_view text, char separator) {
  std::vector<int> values;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    int value = 0;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc{} || stop != word.data() + word.size() || value < 0) {
      refuse(text, concat("\"", word, "\" is not a number from 0 to 2147483647"));
    }
    values.push_back(value);
    begin = end + 1;
  }
  return values;
}

// Contiguous nodes with these many ranks each.
Topology contiguous(std::string_view text, std::span<const int> sizes) {
  std::vector<int> labels;
  for (size_t node = 0; node < sizes.size(); ++node) {
    if (sizes[node] == 0) refuse(text, "a node without ranks");
    if (sizes[node] > kMaxRanks - static_cast<int>(labels.size())) {
      refuse(text, concat("more than ", kMaxRanks, " ranks"));
    }
    labels.insert(labels.end(), static_cast<size_t>(sizes[node]), static_cast<int>(node));
  }
  return Topology(labels);
}

template <class Values>
std::string join(const Values& values, char separator) {
  std::string text;
  for (const int value : values) {
    if (!text.empty()) text += separator;
    text += std::to_string(value);
  }
  return text;
}

}  // namespace

Topology parse(std::string_view text) {
  if (text.find(',') != text.npos) return Topology(numbers(text, ','));
  if (text.find('+') != text.npos) return contiguous(text, numbers(text, '+'));
  if (text.find('x') == text.npos) refuse(text, "neither of x, + and , occurs in it");
  const std::vector<int> shape = numbers(text, 'x');
  if (shape.size() != 2) refuse(text, "more than one x");
  if (shape[0] == 0) refuse(text, "no nodes");
  if (shape[0] > kMaxRanks) refuse(text, concat("more than ", kMaxRanks, " ranks"));
  return contiguous(text, std::vector<int>(static_cast<size_t>(shape[0]), shape[1]));
}

// A form that applies is never longer than the next, so the first that applies is the shortest.
std::string to_text(const Topology& topology) {
  std::vector<int> node_of;
  for (int rank = 0; rank < topology.ranks(); ++rank) node_of.push_back(topology.node_of(rank));
  // Nodes are numbered by lowest rank, so contiguous means ascending.
  if (!std::is_sorted(node_of.begin(), node_of.end())) return join(node_of, ',');
  std::vector<int> sizes;
  for (int node = 0; node < topology.nodes(); ++node) {
    sizes.push_back(static_cast<int>(topology.members(node).size()));
  }
  const bool equal = std::all_of(sizes.begin(), sizes.end(), [&](int s) { return s == sizes[0]; });
  return equal ? concat(sizes.size(), "x", sizes[0]) : join(sizes, '+');
}

}  // namespace slimccl::topology
