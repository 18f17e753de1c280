// What makes the library the vendor's stand-in: variables of its own, and strictness on request.
#include "base/variant.h"

#include <string_view>

#include "base/config.h"

namespace slimccl {
namespace {

bool is_on(const char* variable) {
  const char* const value = environment_variable(variable);
  return value != nullptr && std::string_view(value) == "1";
}

}  // namespace

const Variant& variant() {
  static const Variant only{"VENDOR_", is_on("VENDOR_SLIMCCL_TEST_SENDS_WAIT"),
                            is_on("VENDOR_SLIMCCL_TEST_ONE_SLOT"),
                            is_on("NCCL_LAUNCH_ORDER_IMPLICIT")};
  return only;
}

}  // namespace slimccl
