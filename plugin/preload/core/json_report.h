// SLIMCCL_REPORT: one file per process, written whenever a communicator ends and when the process
// does. Numbers are this rank's.
#pragma once

#include <string>

#include "core/entry.h"

namespace slimccl::overlay {

// {"name": ..., "calls": {"all_reduce": {"profile exact": 3}}, ...}: one communicator.
[[nodiscard]] std::string to_json(const Entry& entry);
// Keeps what an ended communicator has to report: the first hundred, and how many there were.
void keep_for_json(const Entry& entry);
// Writes the file, if one is asked for.
void write_json_report() noexcept;

[[nodiscard]] std::string json_text(std::string_view text);  // quoted

}  // namespace slimccl::overlay
