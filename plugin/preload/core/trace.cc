#include "core/trace.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>

#include "base/error.h"
#include "base/log.h"
#include "core/check.h"
#include "core/json_report.h"

namespace slimccl::overlay {
namespace {

struct Trace {
  std::mutex mutex;
  int file = -1;
  bool failed = false;
  std::map<const void*, size_t> streams;  // their numbers, in the order of their first call

  static Trace& instance() {
    static Trace& self = *new Trace;  // threads may call while the process ends
    return self;
  }

  void open_file() {
    const std::string path = expand_path(State::instance().settings.trace);
    file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    check(file >= 0, ncclSystemError, "cannot open ", path, ": ", std::strerror(errno));
  }

  // One write a line: a process that is killed leaves whole lines.
  void write_line(const std::string& line) {
    if (file < 0) open_file();
    const ssize_t written = ::write(file, line.data(), line.size());
    check(written == static_cast<ssize_t>(line.size()), ncclSystemError, "writing failed");
  }
};

std::string line_of(Entry& entry, const Call& call, bool is_in_place, size_t stream) {
  std::string name, nodes;
  {
    const std::lock_guard lock(entry.mutex);
    name = entry.name;
    if (entry.topology) nodes = to_text(*entry.topology);
  }
  std::string line =
      concat("{\"comm\":", entry.number, ",\"name\":", json_text(name), ",\"rank\":", entry.rank,
             ",\"ranks\":", entry.ranks, ",\"nodes\":", json_text(nodes),
             ",\"op\":", json_text(kOperationNames[static_cast<size_t>(call.op)]),
             ",\"count\":", call.count, ",\"type\":", json_text(type_text(call.type)));
  if (reduces(call.op))
    line += concat(",\"reduction\":", json_text(reduction_text(call.reduction)));
  if (has_root(call.op)) line += concat(",\"root\":", call.root);
  return line += concat(",\"in_place\":", is_in_place ? "true" : "false", ",\"stream\":", stream,
                        ",\"depth\":", ThreadState::current().depth, "}\n");
}

}  // namespace

void trace(Entry& entry, const Call& call, const void* from, const void* into,
           const void* stream) noexcept {
  Trace& self = Trace::instance();
  try {
    const std::lock_guard lock(self.mutex);
    if (self.failed) return;
    self.failed = true;  // unless all goes well
    const size_t number = self.streams.try_emplace(stream, self.streams.size()).first->second;
    self.write_line(line_of(entry, call, in_place(call, entry.rank, from, into), number));
    self.failed = false;
  } catch (const std::exception& error) {
    warn_of("the trace SLIMCCL_TRACE ends: ", error);
  }
}

}  // namespace slimccl::overlay
