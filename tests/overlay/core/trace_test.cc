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
#include "core/evidence.h"

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

// All ranks of a communicator, which see alike: what one of them sees stands for all.
class Communicator {
 public:
  explicit Communicator(Profile profile) : policy_{.profile = profile}, table_(profile) {}

  Reason call(const Traced& one) {
    const bool one_node = topology::parse(one.nodes).nodes() == 1;
    const Facts facts{.standing = one_node ? Reason::kOneNode : Reason::kCompressible,
                      .ranks = one.ranks};
    const Decision decision = decide(one.call, policy_, facts);
    if (!decision.asks_evidence) {
      if (one.call.op != Operation::kSend && one.call.op != Operation::kRecv) table_.pass(one.call);
      return after_evidence(decision, policy_.profile, Evidence::kNone);
    }
    const Duty duty = table_.next_call();
    if (duty.needs_outcome) (void)table_.apply(std::span(&told_, 1));
    const auto seen = table_.see(one.call, one.in_place);
    // The worst case: nothing but codes looks wrong.
    const bool codes = one.content == "codes";
    if (seen.wants_a_sample)
      table_.note(seen.kind, codes ? Content::kImplausible : Content::kPlausible);
    if (duty.takes_snapshot) told_ = table_.snapshot();
    return after_evidence(decision, policy_.profile, seen.word);
  }

 private:
  const Policy policy_;
  EvidenceTable table_;
  std::vector<std::byte> told_;
};

// A call of a trace, and what became of it each time.
struct Fate {
  const Traced* call = nullptr;
  std::vector<Reason> reasons{};
};

// The trace with its second step repeated until the ranks must have agreed on it, and then what
// comes later, many times too: a checkpoint must be exact although training is compressed.
std::vector<Fate> replay(const Trace& trace, Profile profile) {
  std::map<uint64_t, Communicator> communicators;
  std::vector<Fate> fates;
  for (const Traced& one : trace) fates.push_back({&one});
  const auto run = [&](int first, int last) {
    for (Fate& fate : fates) {
      const int step = fate.call->step < 0 ? 1000 : fate.call->step;
      if (step < first || step > last) continue;
      auto& communicator = communicators.try_emplace(fate.call->comm, profile).first->second;
      fate.reasons.push_back(communicator.call(*fate.call));
    }
  };
  run(0, 0);
  for (int i = 0; i < 60; ++i) run(1, 1);
  for (int i = 0; i < 100; ++i) run(2, 3);
  run(4, 1000);
  return fates;
}

bool compressed(const Fate& fate) {
  return std::ranges::count(fate.reasons, Reason::kCompressed) > 0;
}

bool can_shrink(Operation op) {
  return op == Operation::kAllGather || op == Operation::kReduceScatter ||
         op == Operation::kAllReduce;
}

// Under the floor, as the policy counts.
bool small(const Traced& one) { return elems_per_rank(one.call, one.ranks) < Policy{}.floor_elems; }

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

TEST(OverlayTrace, AutoCompressesNothingOfTheNeverList) {
  std::map<std::string, int> checked;
  for (const auto& [name, trace] : all_traces()) {
    for (const Fate& fate : replay(trace, Profile::kAuto)) {
      if (may_be_compressed(*fate.call)) continue;
      EXPECT_FALSE(fate.reasons.empty());
      EXPECT_FALSE(compressed(fate)) << name << ": " << fate.call->text;
      if (!small(*fate.call)) ++checked[fate.call->content];
    }
  }
  // Of each kind some are large enough for the floor not to settle it.
  for (const char* word : {"activations", "checkpoint", "codes", "moments", "other"}) {
    EXPECT_GT(checked[word], 0) << word;
  }
}

TEST(OverlayTrace, AutoCompressesWhatAllRanksHaveSeenToBeWeightsAndGradients) {
  const std::set<std::string> convincing{"fsdp2_bf16", "fsdp2_bf16_reduce", "fsdp2_fp32",
                                         "fsdp2_checkpoint", "zero3_bf16"};
  for (const auto& [name, trace] : all_traces()) {
    std::set<std::string> classes;
    for (const Fate& fate : replay(trace, Profile::kAuto)) {
      const Traced& one = *fate.call;
      if (!may_be_compressed(one) || small(one) || !can_shrink(one.call.op)) continue;
      EXPECT_FALSE(one.step == 0 && fate.reasons.front() == Reason::kCompressed) << name;
      if (fate.reasons.back() == Reason::kCompressed) {
        classes.insert(one.content);
      } else {
        EXPECT_EQ(text(fate.reasons.back()), text(Reason::kNoEvidence)) << name << ": " << one.text;
        // Only what the first step alone does is not compressed in the end.
        EXPECT_TRUE(!convincing.contains(name) || one.step == 0) << name << ": " << one.text;
      }
    }
    std::set<std::string> expected;
    if (convincing.contains(name)) expected = {"gradients", "weights"};
    if (name == "codes") expected = {"gradients"};  // of the adapters
    EXPECT_EQ(classes, expected) << name;
  }
}

TEST(OverlayTrace, ZeroppCompressesWeightsAndGradients) {
  for (const auto& [name, trace] : all_traces()) {
    for (const Fate& fate : replay(trace, Profile::kZeropp)) {
      const Traced& one = *fate.call;
      if (!may_be_compressed(one) || !can_shrink(one.call.op)) continue;
      const Reason expected = small(one) ? Reason::kFloor : Reason::kCompressed;
      for (const Reason reason : fate.reasons) {
        EXPECT_EQ(text(reason), text(expected)) << name << ": " << one.text;
      }
    }
  }
}

TEST(OverlayTrace, ZeroppLeavesFlagsAndNumbersExact) {
  for (const auto& [name, trace] : all_traces()) {
    for (const Fate& fate : replay(trace, Profile::kZeropp)) {
      if (fate.call->content != "other") continue;
      EXPECT_FALSE(compressed(fate)) << name << ": " << fate.call->text;
    }
  }
}

TEST(OverlayTrace, ZeroppStopsAtCodes) {
  for (const Fate& fate : replay(all_traces()["codes"], Profile::kZeropp)) {
    if (fate.call->content != "codes" || fate.call->step < 1) continue;
    EXPECT_EQ(text(fate.reasons.back()), text(Reason::kImplausible)) << fate.call->text;
  }
}

}  // namespace
}  // namespace slimccl::overlay
