#include "core/json_report.h"

#include <cstdio>
#include <fstream>
#include <mutex>

#include "base/error.h"
#include "base/log.h"
#include "core/state.h"

namespace slimccl::overlay {
namespace {

constexpr int kMostKept = 100;

// {"exact_bytes": 12, "compressed_bytes": 3, "all_gather": {...}, ...}: what this rank sends to
// other nodes in calls that are compressed, or would be.
std::string between_nodes(const Counts& counts) {
  const auto both = [](uint64_t exact, uint64_t compressed) {
    return concat("\"exact_bytes\": ", exact, ", \"compressed_bytes\": ", compressed);
  };
  std::string text = both(Counts::sum(counts.exact_bytes), Counts::sum(counts.compressed_bytes));
  for (size_t op = 0; op < kOperations; ++op) {
    const uint64_t elems = Counts::read(counts.compressed_elems[op]);
    if (elems == 0) continue;
    text += concat(
        ", ", json_text(kOperationNames[op]), ": {\"elements\": ", elems, ", ",
        both(Counts::read(counts.exact_bytes[op]), Counts::read(counts.compressed_bytes[op])), "}");
  }
  return concat("{", text, "}");
}

// The counts' fields, without braces.
std::string fields(const Counts& counts) {
  std::string calls, elems, bytes;
  for (size_t op = 0; op < kOperations; ++op) {
    std::string reasons;
    for (size_t reason = 0; reason < kReasons; ++reason) {
      const uint64_t some = Counts::read(counts.calls[op][reason]);
      if (some == 0) continue;
      reasons += concat(reasons.empty() ? "" : ", ", json_text(kReasonTexts[reason]), ": ", some);
    }
    if (reasons.empty()) continue;
    const char* comma = calls.empty() ? "" : ", ";
    const std::string key = json_text(kOperationNames[op]);
    calls += concat(comma, key, ": {", reasons, "}");
    elems += concat(comma, key, ": ", Counts::read(counts.elems[op]));
    bytes += concat(comma, key, ": ", Counts::read(counts.bytes[op]));
  }
  return concat("\"forwarded\": ", counts.all_calls() - counts.calls_because(Reason::kCompressed),
                ", \"compressed\": ", counts.calls_because(Reason::kCompressed), ", \"calls\": {",
                calls, "}, \"elements\": {", elems, "}, \"bytes\": {", bytes,
                "}, \"between_nodes\": ", between_nodes(counts));
}

std::string whole() {
  State& state = State::instance();
  Counts all;
  all += state.ended;
  std::string communicators;
  {
    const std::lock_guard lock(state.kept_mutex);
    communicators = state.kept;
  }
  state.table.for_each([&](Entry& entry) {
    all += entry.counts;
    const std::unique_lock lock(entry.mutex, std::try_to_lock);
    if (lock) communicators += concat(communicators.empty() ? "" : ",\n  ", to_json(entry));
  });
  return concat("{\"version\": ", json_text(SLIMCCL_VERSION),
                ", \"profile\": ", json_text(state.settings.profile),
                ", \"host\": ", json_text(host_name()), ", \"made\": ", state.communicators,
                ", \"steps\": ", state.steps, ", \"pauses\": ", state.pauses, ",\n \"total\": {",
                fields(all), "},\n \"communicators\": [\n  ", communicators, "]}\n");
}

}  // namespace

std::string json_text(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return quoted + '"';
}

std::string to_json(const Entry& entry) {
  const std::string nodes = entry.topology ? to_text(*entry.topology) : "";
  return concat("{\"name\": ", json_text(entry.name), ", \"rank\": ", entry.rank,
                ", \"ranks\": ", entry.ranks, ", \"nodes\": ", json_text(nodes),
                ", \"standing\": ", json_text(text(entry.standing)),
                ", \"why\": ", json_text(entry.why), ", ", fields(entry.counts), "}");
}

void keep_for_json(const Entry& entry) {
  State& state = State::instance();
  if (state.settings.report.empty()) return;
  const std::lock_guard lock(state.kept_mutex);
  if (state.kept_count++ >= kMostKept) return;
  state.kept += concat(state.kept.empty() ? "" : ",\n  ", to_json(entry));
}

void write_json_report() noexcept {
  try {
    const std::string& pattern = State::instance().settings.report;
    if (pattern.empty()) return;
    const std::lock_guard one_at_a_time(State::instance().report_mutex);
    const std::string path = expand_path(pattern);
    const std::string fresh = path + ".new";
    {
      std::ofstream file(fresh, std::ios::trunc);
      file << whole();
      file.close();
      check(!file.fail(), ncclSystemError, "writing failed");
    }
    check(std::rename(fresh.c_str(), path.c_str()) == 0, ncclSystemError, "renaming failed");
  } catch (const std::exception& error) {
    log::warn("overlay: cannot write the report SLIMCCL_REPORT: ", error.what());
  }
}

}  // namespace slimccl::overlay
