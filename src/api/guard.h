// The one place where exceptions meet the C ABI: every exported function is one guard() call.
#pragma once

#include <concepts>
#include <exception>
#include <string_view>
#include <type_traits>

#include "base/error.h"

namespace slimccl::api {

// Keeps the text for ncclGetLastError, and returns the code.
ncclResult_t remember(std::string_view function, ncclResult_t code, std::string_view text) noexcept;

// `body` returns nothing, or a result that is no error.
template <std::invocable Body>
ncclResult_t guard(std::string_view function, Body&& body) noexcept {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<Body>>) {
      body();
      return ncclSuccess;
    } else {
      return body();
    }
  } catch (const Error& error) {
    return remember(function, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return remember(function, ncclSystemError, "out of memory");
  } catch (const std::exception& error) {
    return remember(function, ncclInternalError, error.what());
  } catch (...) {
    return remember(function, ncclInternalError, "unknown exception");
  }
}

}  // namespace slimccl::api
