#include "shadow.h"

#include <dlfcn.h>

namespace slimccl::fallback {
namespace {

ptrdiff_t distance = 0;

}  // namespace

bool find_shadow() {
  for (const char* library : {"libcuda.so.1", "libcudart.so.13"}) {
    void* handle = dlopen(library, RTLD_NOLOAD | RTLD_NOW);
    if (handle == nullptr) continue;
    void* symbol = dlsym(handle, "slimccl_emulated_distance");
    dlclose(handle);
    if (symbol == nullptr) continue;
    distance = reinterpret_cast<ptrdiff_t (*)()>(symbol)();
    return true;
  }
  return false;
}

std::byte* shadow_of(const at::Tensor& tensor) {
  return static_cast<std::byte*>(tensor.unsafeGetTensorImpl()->mutable_data()) + distance;
}

}  // namespace slimccl::fallback
