#include "core/report.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <mutex>

#include "base/config.h"
#include "base/log.h"
#include "core/json_report.h"

namespace slimccl::overlay {
namespace {

std::string title(const Entry& entry) {
  std::string text =
      concat("overlay: ", entry.name, entry.name.empty() ? "" : ": ", entry.ranks, " ranks");
  if (entry.topology) {
    text += concat(" on ", entry.topology->nodes(), " node(s) (", to_text(*entry.topology), ")");
  }
  return text;
}

// Text without allocation.
class Line {
 public:
  Line& operator<<(std::string_view text) noexcept {
    for (const char c : text) {
      if (length_ < text_.size()) text_[length_++] = c;
    }
    return *this;
  }
  Line& operator<<(uint64_t number) noexcept {
    std::array<char, 20> digits;
    size_t at = digits.size();
    do {
      digits[--at] = static_cast<char>('0' + number % 10);
    } while ((number /= 10) > 0);
    return *this << std::string_view(&digits[at], digits.size() - at);
  }
  // Not if that would wait: a full pipe must not keep a process from ending.
  void write_at_once(int fd) const noexcept {
    pollfd ready{.fd = fd, .events = POLLOUT, .revents = 0};
    if (poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0) {
      (void)!::write(fd, text_.data(), length_);
    }
  }

 private:
  std::array<char, 1000> text_;
  size_t length_ = 0;
};

}  // namespace

std::string version_text(int version) {
  const int major = version >= 10000 ? version / 10000 : version / 1000;
  const int rest = version - major * (version >= 10000 ? 10000 : 1000);
  return concat(major, ".", rest / 100, ".", rest % 100);
}

void announce_process(const slimccl_nccl& nccl) {
  std::call_once(State::instance().announced, [&] {
    int version = 0;
    if (nccl.GetVersion != nullptr) (void)nccl.GetVersion(&version);
    const Config& settings = State::instance().settings;
    log::notice("overlay ", SLIMCCL_VERSION, " over NCCL ", version_text(version), " (", nccl.path,
                "): profile ", settings.profile, ", ",
                State::instance().policy.compresses()
                    ? "large calls between nodes are compressed if all ranks agree"
                    : "every call is forwarded");
    for (const std::string& line : unknown_settings(environment_names())) log::warn(line);
    const char* run = environment_variable("SLIMCCL_RUN");
    const bool profile_is_set = environment_variable("SLIMCCL_PROFILE") != nullptr ||
                                State::instance().policy.profile != Profile::kExact;
    const std::string hookless = hookless_warning(run == nullptr ? "" : run, profile_is_set);
    if (!hookless.empty()) log::warn("overlay: ", hookless);
  });
}

void announce(const Entry& entry, bool warns, int speaker) {
  const std::string line = concat(title(entry), ": ", entry.why);
  if (entry.rank != speaker) {
    log::info(line);
  } else if (warns) {
    log::warn(line, "; this communicator is exact");
  } else {
    log::notice(line);
  }
}

std::string to_text(const Counts& counts, bool audits) {
  const uint64_t compressed = counts.calls_because(Reason::kCompressed);
  std::string line = concat("forwarded ", counts.all_calls() - compressed, " calls");
  if (compressed > 0) line += concat(", compressed ", compressed);
  const char* separator = ": ";
  for (size_t op = 0; op < kOperations; ++op) {
    const uint64_t calls = counts.calls_of(static_cast<Operation>(op));
    if (calls == 0) continue;
    line += concat(separator, name(static_cast<Operation>(op)), " ", calls, " (",
                   Counts::read(counts.elems[op]), " elements, ", Counts::read(counts.bytes[op]),
                   " bytes)");
    separator = ", ";
  }
  separator = "; exact: ";
  for (size_t reason = 0; reason < kReasons; ++reason) {
    if (static_cast<Reason>(reason) == Reason::kCompressed) continue;
    const uint64_t calls = counts.calls_because(static_cast<Reason>(reason));
    if (calls == 0) continue;
    line += concat(separator, calls, " (", text(static_cast<Reason>(reason)), ")");
    separator = ", ";
  }
  const uint64_t exact = Counts::sum(counts.exact_bytes);
  if (exact > 0) {
    line += concat(
        audits ? "; those that would be compressed sent " : "; those compressed would have sent ",
        exact, " bytes to other nodes, and ", audits ? "would send " : "sent ",
        Counts::sum(counts.compressed_bytes));
  }
  return line;
}

void report(const Entry& entry) {
  const bool audits = State::instance().policy.audits();
  const std::string line =
      concat(title(entry), ": rank ", entry.rank, " ", to_text(entry.counts, audits));
  if (entry.rank > 0) {
    log::info(line);
  } else {
    log::notice(line);
  }
}

void warn_of_idle_rules() {
  const State& state = State::instance();
  if (state.policy.profile == Profile::kExact) return;
  const std::string warning = state.rule_use.warning(state.policy.rules);
  if (!warning.empty()) log::warn("overlay: ", warning);
}

void report_process() {
  const State& state = State::instance();
  if (state.communicators == 0) return;
  Counts all;
  all += state.ended;
  state.table.for_each([&](Entry& entry) {
    const std::unique_lock lock(entry.mutex, std::try_to_lock);  // a stuck call may hold it
    if (lock) report(entry);
    all += entry.counts;
  });
  log::notice("overlay: ", state.communicators, " communicators, ",
              to_text(all, state.policy.audits()));
  write_json_report();
  warn_of_idle_rules();
}

void report_in_handler(int fd) noexcept {
  const State& state = State::instance();
  if (state.communicators == 0) return;
  std::array<uint64_t, kOperations> calls{};
  uint64_t compressed = 0;
  const auto count = [&](const Counts& counts) {
    compressed += counts.calls_because(Reason::kCompressed);
    for (size_t op = 0; op < kOperations; ++op)
      calls[op] += counts.calls_of(static_cast<Operation>(op));
  };
  count(state.ended);
  state.table.for_each([&](Entry& entry) { count(entry.counts); });
  uint64_t sum = 0;
  for (const uint64_t some : calls) sum += some;
  Line line;
  line << "SLIMCCL NOTICE overlay: process " << static_cast<uint64_t>(getpid())
       << " ended by SIGTERM: forwarded " << sum - compressed << " calls";
  if (compressed > 0) line << ", compressed " << compressed;
  const char* separator = ": ";
  for (size_t op = 0; op < kOperations; ++op) {
    if (calls[op] == 0) continue;
    line << separator << kOperationNames[op] << " " << calls[op];
    separator = ", ";
  }
  (line << "\n").write_at_once(fd);
}

}  // namespace slimccl::overlay
