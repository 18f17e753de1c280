// Versions, error texts, and the functions that are SlimCCL's own.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <string>

#include "api/export.h"
#include "api/guard.h"
#include "api/registry.h"
#include "api/training.h"
#include "base/error.h"
#include "base/log.h"
#include "slimccl/slimccl.h"

namespace api = slimccl::api;
using slimccl::check;

namespace {

// The process's last error, as NCCL keeps it.
std::mutex last_error_mutex;
std::string& last_error() {
  static auto* const text =
      new std::string;  // outlives every static destructor that may still call us
  return *text;
}

}  // namespace

ncclResult_t slimccl::api::remember(std::string_view function, ncclResult_t code,
                                    std::string_view text) noexcept {
  try {
    const std::lock_guard lock(last_error_mutex);
    last_error() = concat(function, ": ", text);
    log::info("error ", static_cast<int>(code), " from ", last_error());
  } catch (...) {  // out of memory: the code alone must do
  }
  return code;
}

SLIMCCL_TWIN(GetLastError);
SLIMCCL_EXPORT const char* ncclGetLastError(ncclComm_t) {
  thread_local std::string copy;
  const std::lock_guard lock(last_error_mutex);
  copy = last_error();
  return copy.c_str();
}

SLIMCCL_TWIN(GetErrorString);
SLIMCCL_EXPORT const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError:
      return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclInternalError:
      return "internal error - please report this issue to the NCCL developers";
    case ncclInvalidArgument:
      return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case ncclInvalidUsage:
      return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    case ncclNumResults:
      break;
  }
  return "unknown result code";
}

SLIMCCL_TWIN(GetVersion);
SLIMCCL_EXPORT ncclResult_t ncclGetVersion(int* version) {
  return api::guard("ncclGetVersion", [&] {
    check(version != nullptr, ncclInvalidArgument, "version is null");
    *version = NCCL_VERSION_CODE;
  });
}

SLIMCCL_EXPORT const char* slimcclVersion() { return SLIMCCL_VERSION; }

SLIMCCL_EXPORT ncclResult_t slimcclGetStats(ncclComm_t comm, slimcclStats_t* stats) {
  return api::guard("slimcclGetStats", [&] {
    check(stats != nullptr, ncclInvalidArgument, "stats is null");
    check(stats->size >= sizeof stats->size, ncclInvalidArgument, "stats->size is ", stats->size,
          "; set it to sizeof(slimcclStats_t) before the call");
    const auto now = api::communicator_of(comm)->stats();
    slimcclStats_t all{stats->size,          now.calls,
                       now.compressed_calls, now.bytes_between_nodes,
                       now.bytes_in_node,    now.exact_bytes_between_nodes,
                       now.transfers};
    std::memcpy(stats, &all, std::min(stats->size, sizeof all));
  });
}

SLIMCCL_EXPORT ncclResult_t slimcclExplain(ncclComm_t comm, const char* op, size_t count,
                                           ncclDataType_t type, char* text, size_t capacity) {
  return api::guard("slimcclExplain", [&] {
    check(op != nullptr && text != nullptr && capacity > 0, ncclInvalidArgument,
          "op or text is null, or capacity is 0");
    const auto communicator = api::communicator_of(comm);
    const uint64_t most = static_cast<uint64_t>(INT64_MAX) / slimccl::quant::type_bytes(type) /
                          static_cast<uint64_t>(communicator->ranks());
    check(count <= most, ncclInvalidArgument, "count ", count, " is more than a call can have");
    const auto words = communicator->explain(
        {.op = slimccl::collectives::collective_from_name(op), .type = type, .count = count},
        api::training().paused());
    const size_t length = std::min(words.size(), capacity - 1);
    std::memcpy(text, words.data(), length);
    text[length] = '\0';
  });
}
