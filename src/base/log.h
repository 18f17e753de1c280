// The log: lines "host:pid:tid [rank] SLIMCCL LEVEL text", one write each, to stderr or
// SLIMCCL_LOG_FILE. Log once, where an error is decided, not where it passes. Any thread may log.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace slimccl::log {

enum class Level : uint8_t { kNone, kWarn, kNotice, kInfo, kDebug };

[[nodiscard]] bool enabled(Level level) noexcept;
void write(Level level, std::string_view text) noexcept;
// Where lines go, -1: nowhere; for a signal's handler, which may not call the above. Valid from
// here on.
[[nodiscard]] int descriptor() noexcept;

template <class... Parts>
void warn(const Parts&... parts) {
  if (enabled(Level::kWarn)) write(Level::kWarn, concat(parts...));
}
// What a user wants to see once: what is active, what it saved. Shown by default.
template <class... Parts>
void notice(const Parts&... parts) {
  if (enabled(Level::kNotice)) write(Level::kNotice, concat(parts...));
}
template <class... Parts>
void info(const Parts&... parts) {
  if (enabled(Level::kInfo)) write(Level::kInfo, concat(parts...));
}
template <class... Parts>
void debug(const Parts&... parts) {
  if (enabled(Level::kDebug)) write(Level::kDebug, concat(parts...));
}

}  // namespace slimccl::log
