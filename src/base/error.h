// The one exception type of the library, and the check that throws it.
// A message says what was wrong, with which value, and what to do about it: it is what
// ncclGetLastError returns.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

#include "slimccl/nccl.h"

namespace slimccl {

class Error : public std::runtime_error {
 public:
  Error(ncclResult_t code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] ncclResult_t code() const noexcept { return code_; }

 private:
  ncclResult_t code_;
};

// What NCCL's callers get of it: another exception is the system's, out of memory mostly.
[[nodiscard]] inline ncclResult_t code_of(const std::exception& failure) noexcept {
  const auto* const ours = dynamic_cast<const Error*>(&failure);
  return ours != nullptr ? ours->code() : ncclSystemError;
}

// Joins its arguments as a stream would; g++ 12 has no std::format.
template <class... Parts>
[[nodiscard]] std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

// Throws Error{code, message parts joined} unless `holds`.
template <class... Parts>
void check(bool holds, ncclResult_t code, const Parts&... parts) {
  if (!holds) throw Error(code, concat(parts...));
}

// For broken promises between our own parts: never the user's fault.
template <class... Parts>
void ensure(bool holds, const Parts&... parts) {
  if (!holds)
    throw Error(ncclInternalError, concat("internal error, please report it: ", parts...));
}

}  // namespace slimccl
