#include "base/variant.h"

namespace slimccl {

__attribute__((weak)) const Variant& variant() {
  static constexpr Variant kShipped{"", false, false, false};
  return kShipped;
}

}  // namespace slimccl
