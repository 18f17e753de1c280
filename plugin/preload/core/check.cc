#include "core/check.h"

#include <algorithm>
#include <functional>
#include <map>

#include "base/error.h"
#include "base/log.h"
#include "core/state.h"
#include "quant/codec.h"
#include "runtime/signature.h"

namespace slimccl::overlay {
namespace {

// Compares the calls of one communicator; throws Error if ranks differ or one does not come.
void compare(Entry& entry, std::span<const Call> calls) {
  entry.background.wait();
  const std::lock_guard lock(entry.mutex);
  check(entry.star != nullptr, ncclInvalidUsage,
        "SLIMCCL_CHECK: the ranks of this communicator are no longer in contact");
  std::string mine(1, static_cast<char>(Exchange::kCheck));
  for (const Call& call : calls) {
    mine += concat(mine.size() > 1 ? "\n" : "", signature_text(call, ++entry.checked));
  }
  std::vector<std::string> texts;
  const double timeout_s = State::instance().settings.timeout_s;
  for (const auto& bytes : entry.star->all_gather(std::as_bytes(std::span(mine)), timeout_s)) {
    std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const bool split = !text.empty() && text[0] == static_cast<char>(Exchange::kSplit);
    texts.push_back(split ? "ncclCommSplit" : text.substr(std::min<size_t>(1, text.size())));
  }
  const std::string difference = mismatch(texts);
  check(difference.empty(), ncclInvalidUsage,
        "SLIMCCL_CHECK: ranks make different calls: ", difference, "; none of them was made");
}

// A failure, by one rank for all; nothing if there is no memory for it.
void say(const Entry& entry, const std::string& error) noexcept {
  try {
    const std::string line = concat("overlay: rank ", entry.rank, ": ", error);
    if (entry.rank == speaker(error)) {
      log::warn(line);
    } else {
      log::info(line);
    }
  } catch (const std::exception&) {
  }
}

// compare(), with its failure kept and said.
ncclResult_t compared(Entry& entry, std::span<const Call> calls, std::string& error) noexcept {
  ncclResult_t result = ncclInternalError;
  try {
    compare(entry, calls);
    return ncclSuccess;
  } catch (const Error& failure) {
    result = failure.code();
    error = failure.what();
  } catch (const std::exception& failure) {
    error = failure.what();
  }
  say(entry, error);
  return result;
}

}  // namespace

std::string type_text(ncclDataType_t type) {
  const bool known = element_bytes(type) != 0;
  return known ? std::string(quant::type_name(type)) : concat("type ", static_cast<int>(type));
}

std::string reduction_text(ncclRedOp_t reduction) {
  static constexpr const char* kNames[] = {"sum", "prod", "max", "min", "avg"};
  const auto index = static_cast<size_t>(reduction);
  return index < std::size(kNames) ? kNames[index] : "PreMulSum";
}

bool reduces(Operation op) {
  return op == Operation::kAllReduce || op == Operation::kReduceScatter || op == Operation::kReduce;
}

bool has_root(Operation op) {
  return op == Operation::kBroadcast || op == Operation::kReduce || op == Operation::kGather ||
         op == Operation::kScatter;
}

std::string signature_text(const Call& call, uint64_t number) {
  std::string text =
      concat("call ", number, ": ", name(call.op), " of ", call.count, " x ", type_text(call.type));
  if (reduces(call.op)) text += concat(", ", reduction_text(call.reduction));
  if (has_root(call.op)) text += concat(", root ", call.root);
  return text;
}

std::string mismatch(std::span<const std::string> by_rank) {
  const auto same = [&](const std::string& text) { return text == by_rank.front(); };
  if (std::ranges::all_of(by_rank, same)) return "";
  std::vector<std::string_view> rest(by_rank.begin(), by_rank.end());
  while (true) {
    std::vector<std::string> lines;
    for (std::string_view& text : rest) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(text.size(), line.size() + 1));
      lines.emplace_back(line.empty() ? "no further call in this group" : line);
    }
    const auto equal = [&](const std::string& line) { return line == lines.front(); };
    if (!std::ranges::all_of(lines, equal)) return runtime::who_says_what(lines);
  }
}

ncclResult_t check_call(Entry& entry, const Call& call) noexcept {
  if (call.op == Operation::kSend || call.op == Operation::kRecv) return ncclSuccess;
  try {
    ThreadState& thread = ThreadState::current();
    if (thread.depth > 0) {
      thread.calls.emplace_back(&entry, call);
      return ncclSuccess;
    }
  } catch (const std::exception& error) {
    return fail(ncclSystemError, error.what());
  }
  std::string error;
  const ncclResult_t result = compared(entry, std::span(&call, 1), error);
  return result == ncclSuccess ? result : fail(result, std::move(error));
}

ncclResult_t check_group(const std::vector<std::pair<Entry*, Call>>& calls) noexcept try {
  if (State::instance().forked) return ncclSuccess;  // the connections are the parent's
  struct Outcome {
    std::vector<Call> calls;
    ncclResult_t result = ncclSuccess;
    std::string error;
  };
  std::map<Entry*, Outcome> outcomes;
  for (const auto& [entry, call] : calls) outcomes[entry].calls.push_back(call);
  std::vector<std::function<void()>> tasks;
  for (auto& [entry, outcome] : outcomes) {
    tasks.emplace_back([entry = entry, &outcome = outcome] {
      outcome.result = compared(*entry, outcome.calls, outcome.error);
    });
  }
  run_together(tasks);
  for (auto& [entry, outcome] : outcomes) {
    if (outcome.result != ncclSuccess) return fail(outcome.result, std::move(outcome.error));
  }
  return ncclSuccess;
} catch (const std::exception& error) {
  return fail(ncclSystemError, error.what());
}

}  // namespace slimccl::overlay
