// What real programs call (tests/data/traces), as the policy takes it. Their README says how each
// was recorded; "content" says what a call carries.
#include "core/trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/error.h"
#include "core/check.h"

namespace slimccl::overlay {
namespace {

TEST(OverlayTrace, KnowsNcclsFormsInPlace) {
  using enum Operation;
  constexpr uintptr_t kBuffer = 0x10000, kOther = 0x90000, kSlice = 100 * 4;
  struct Case {
    const char* what;
    Call call;
    uintptr_t from, into;
    bool expected;
  };
  const Case cases[] = {
      {"all-reduce", {kAllReduce, 100, ncclFloat}, kBuffer, kBuffer, true},
      {"all-reduce elsewhere", {kAllReduce, 100, ncclFloat}, kBuffer, kOther, false},
      {"own slice", {kAllGather, 100, ncclFloat}, kBuffer + 2 * kSlice, kBuffer, true},
      {"another's slice", {kAllGather, 100, ncclFloat}, kBuffer + kSlice, kBuffer, false},
      {"slice of bf16", {kAllGather, 200, ncclBfloat16}, kBuffer + 2 * kSlice, kBuffer, true},
      {"its start", {kAllGather, 100, ncclFloat}, kBuffer, kBuffer, false},
      {"own sum", {kReduceScatter, 100, ncclFloat}, kBuffer, kBuffer + 2 * kSlice, true},
      {"sum elsewhere", {kReduceScatter, 100, ncclFloat}, kBuffer, kOther, false},
      {"root's part", {kGather, 100, ncclFloat, ncclSum, 2}, kBuffer + 2 * kSlice, kBuffer, true},
      {"no root", {kGather, 100, ncclFloat, ncclSum, 1}, kBuffer + 2 * kSlice, kBuffer, false},
      {"scatter", {kScatter, 100, ncclFloat, ncclSum, 2}, kBuffer, kBuffer + 2 * kSlice, true},
      {"no receive buffer", {kSend, 100, ncclFloat}, kBuffer, 0, false},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(
        in_place(one.call, 2, reinterpret_cast<void*>(one.from), reinterpret_cast<void*>(one.into)),
        one.expected)
        << one.what;
  }
}

// A line of a trace.
struct Traced {
  std::string text;
  Call call{};
  uint64_t comm = 0;
  int ranks = 0, step = -1;
  bool in_place = false;
  std::string nodes, content;
};

// The value of a field, without quotes; empty if there is none. Traces have no nested objects, and
// no quotes in texts.
std::string field(const std::string& line, std::string_view name) {
  const std::string key = concat('"', name, "\":");
  size_t at = line.find(key);
  if (at == line.npos) return "";
  at += key.size();
  if (line[at] == '"') return line.substr(at + 1, line.find('"', at + 1) - at - 1);
  return line.substr(at, line.find_first_of(",}", at) - at);
}

ncclRedOp_t reduction_of(const std::string& name) {
  for (int op = ncclSum; op < ncclNumOps; ++op) {
    if (reduction_text(static_cast<ncclRedOp_t>(op)) == name) return static_cast<ncclRedOp_t>(op);
  }
  return name.empty() ? ncclSum : ncclNumOps;  // what ncclRedOpCreatePreMulSum makes
}

Traced traced(const std::string& line) {
  Traced one;
  one.text = line;
  for (size_t op = 0; op < kOperations; ++op) {
    if (field(line, "op") == kOperationNames[op]) one.call.op = static_cast<Operation>(op);
  }
  for (int type = 0; type < ncclNumTypes; ++type) {
    if (field(line, "type") == type_text(static_cast<ncclDataType_t>(type)))
      one.call.type = static_cast<ncclDataType_t>(type);
  }
  one.call.count = std::stoull(field(line, "count"));
  one.call.reduction = reduction_of(field(line, "reduction"));
  one.comm = std::stoull(field(line, "comm"));
  one.ranks = std::stoi(field(line, "ranks"));
  if (const std::string step = field(line, "step"); !step.empty()) one.step = std::stoi(step);
  one.in_place = field(line, "in_place") == "true";
  one.nodes = field(line, "nodes");
  one.content = field(line, "content");
  return one;
}

using Trace = std::vector<Traced>;

std::map<std::string, Trace> all_traces() {
  std::map<std::string, Trace> traces;
  const char* data = std::getenv("SLIMCCL_TEST_DATA");
  if (data == nullptr) return traces;
  for (const auto& file : std::filesystem::directory_iterator(concat(data, "/traces"))) {
    if (file.path().extension() != ".jsonl") continue;
    std::ifstream lines(file.path());
    for (std::string line; std::getline(lines, line);)
      traces[file.path().stem()].push_back(traced(line));
  }
  return traces;
}

bool may_be_compressed(const Traced& one) {
  return one.content == "weights" || one.content == "gradients";
}

// What the policy makes of each call, if the ranks agree.
std::vector<Reason> replay(const Trace& trace, Profile profile) {
  std::vector<Reason> reasons;
  for (const Traced& one : trace) {
    const bool one_node = topology::parse(one.nodes).nodes() == 1;
    const Reason standing = one_node ? Reason::kOneNode : Reason::kCompressible;
    reasons.push_back(classify(one.call, {profile, 65536}, {standing, one.ranks, false}));
  }
  return reasons;
}

TEST(OverlayTrace, RecordedCallsCarryAllThatTheyShould) {
  std::map<std::string, std::set<std::string>> where;
  for (const auto& [name, trace] : all_traces()) {
    for (const Traced& one : trace) where[one.content].insert(name);
  }
  std::set<std::string> words;
  for (const auto& [word, names] : where) words.insert(word);
  EXPECT_EQ(words, (std::set<std::string>{"activations", "checkpoint", "codes", "gradients",
                                          "moments", "other", "weights"}));
  EXPECT_EQ(where["moments"], (std::set<std::string>{"fsdp1_checkpoint", "fsdp2_checkpoint"}));
}

TEST(OverlayTrace, ZeroppCompressesWeightsAndGradients) {
  for (const auto& [name, trace] : all_traces()) {
    const std::vector<Reason> reasons = replay(trace, Profile::kZeropp);
    for (size_t i = 0; i < trace.size(); ++i) {
      const Traced& one = trace[i];
      if (!may_be_compressed(one) || class_of(one.call.op) == Class::kUnknown) continue;
      const auto slices =
          static_cast<uint64_t>(one.call.op == Operation::kAllReduce ? one.ranks : 1);
      const bool small = (one.call.count + slices - 1) / slices < 65536;
      EXPECT_EQ(text(reasons[i]), text(small ? Reason::kFloor : Reason::kCompressed))
          << name << ":" << i + 1 << " " << one.text;
    }
  }
}

TEST(OverlayTrace, ZeroppLeavesFlagsAndNumbersExact) {
  for (const auto& [name, trace] : all_traces()) {
    const std::vector<Reason> reasons = replay(trace, Profile::kZeropp);
    for (size_t i = 0; i < trace.size(); ++i) {
      if (trace[i].content != "other") continue;
      EXPECT_NE(reasons[i], Reason::kCompressed) << name << ":" << i + 1 << " " << trace[i].text;
    }
  }
}

}  // namespace
}  // namespace slimccl::overlay
