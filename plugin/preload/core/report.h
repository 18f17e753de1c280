// What the overlay tells people: lines in the log, a file in JSON.
#pragma once

#include <string>

#include "core/entry.h"
#include "core/state.h"

namespace slimccl::overlay {

// The process's first line; once, at its first communicator.
void announce_process(const slimccl_nccl& nccl);
// A communicator's first line, by its rank 0. `lock` on entry.mutex is held.
void announce(const Entry& entry, bool warns, int speaker);

// "forwarded 12 calls: all_reduce 10 (40 elements, 160 bytes), ...; exact: 12 (profile exact)".
[[nodiscard]] std::string to_text(const Counts& counts, bool audits);
// Of one communicator, when it ends. entry.mutex is held, or nothing changes any more.
void report(const Entry& entry);
// Of the process, when it ends.
void report_process();
// The rules that fit no communicator, by rank 0 of the largest.
void warn_of_idle_rules();
// The same in short, in a signal's handler: only if `fd` takes it at once. -1: nowhere.
void report_in_handler(int fd) noexcept;

// "2.28.9" of 22809.
[[nodiscard]] std::string version_text(int version);

}  // namespace slimccl::overlay
