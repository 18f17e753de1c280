#include "base/log.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <string>

#include "base/config.h"

namespace slimccl::log {
namespace {

// Where lines go; opened at the first line. A file that cannot be opened falls back to stderr and
// says so.
int sink() {
  static const int fd = [] {
    if (config().log_file.empty()) return STDERR_FILENO;
    const std::string path = expand_path(config().log_file);
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file >= 0) return file;
    const std::string text =
        concat("SLIMCCL WARN cannot open SLIMCCL_LOG_FILE \"", path, "\"; using stderr\n");
    (void)!::write(STDERR_FILENO, text.data(), text.size());
    return STDERR_FILENO;
  }();
  return fd;
}

Level threshold() {
  static const Level level = [] {
    const std::string& text = config().log_level;
    if (text == "debug") return Level::kDebug;
    if (text == "info") return Level::kInfo;
    if (text == "notice") return Level::kNotice;
    return text == "warn" ? Level::kWarn : Level::kNone;
  }();
  return level;
}

}  // namespace

bool enabled(Level level) noexcept {
  try {
    return level <= threshold();
  } catch (...) {
    return false;  // the settings are unreadable: the API call that reads them next reports it
  }
}

int descriptor() noexcept {
  try {
    return enabled(Level::kWarn) ? sink() : -1;
  } catch (...) {
    return STDERR_FILENO;
  }
}

void write(Level level, std::string_view text) noexcept {
  try {
    static constexpr std::array<std::string_view, 5> kNames = {"NONE", "WARN", "NOTICE", "INFO",
                                                               "DEBUG"};
    const std::string line =
        concat(host_name(), ":", getpid(), ":", syscall(SYS_gettid), " SLIMCCL ",
               kNames[static_cast<size_t>(level)], " ", text, "\n");
    (void)!::write(sink(), line.data(), line.size());
  } catch (...) {  // a log line is never worth a failure
  }
}

}  // namespace slimccl::log
