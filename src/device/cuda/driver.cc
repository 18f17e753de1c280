#include "device/cuda/driver.h"

#include <dlfcn.h>

#include "base/error.h"

namespace slimccl::device {
namespace {

constexpr int kOldestVersion = 12000;  // brought cuLibraryLoadData

std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

std::string last_dl_error() {
  const char* text = dlerror();
  return text != nullptr ? text : "no reason given";
}

// The version is asked first: a driver that is too old lacks functions, and its age says more.
void* open_driver(const std::string& library) {
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  check(handle != nullptr, ncclSystemError, "no CUDA driver: ", last_dl_error(),
        "; install NVIDIA's driver, or keep tensors in host memory");
  int version = 0;
  const auto get_version =
      reinterpret_cast<CUresult (*)(int*)>(dlsym(handle, "cuDriverGetVersion"));
  check(get_version != nullptr, ncclSystemError, library,
        " has no cuDriverGetVersion: it is not NVIDIA's driver; look at LD_LIBRARY_PATH");
  const CUresult result = get_version(&version);
  check(result == CUDA_SUCCESS, ncclSystemError, library,
        " is not a working CUDA driver: cuDriverGetVersion failed with result ",
        static_cast<int>(result),
        "; if it is the CUDA toolkit's stub, which is only for linking, take its folder out of "
        "LD_LIBRARY_PATH and install NVIDIA's driver");
  check(version >= kOldestVersion, ncclSystemError, "the CUDA driver is too old: ", library,
        " serves CUDA ", version_text(version), ", SlimCCL needs ", version_text(kOldestVersion),
        " or newer; update NVIDIA's driver");
  return handle;
}

}  // namespace

Driver::Driver(const std::string& library) : library_(library), handle_(open_driver(library)) {
  cuInit(0);
}

void* Driver::symbol(const char* name, const char* symbol) const {
  void* found = dlsym(handle_, symbol);
  check(found != nullptr, ncclSystemError, "the CUDA driver ", library_, " lacks ", name, " (as ",
        symbol, "); SlimCCL needs that of CUDA ", version_text(kOldestVersion),
        " or newer; update NVIDIA's driver");
  return found;
}

void Driver::fail(const char* name, CUresult result) const {
  const char *result_name = nullptr, *text = nullptr;
  if (cuGetErrorName.result(result, &result_name) != CUDA_SUCCESS) result_name = "unknown result";
  if (cuGetErrorString.result(result, &text) != CUDA_SUCCESS) text = "no description";
  CUdevice device = 0;
  const bool has_device = cuCtxGetDevice.result(&device) == CUDA_SUCCESS;
  throw Error(ncclUnhandledCudaError,
              concat(name, " failed ", has_device ? concat("on device ", device) : "with no device",
                     ": ", result_name, " (", static_cast<int>(result), "): ", text));
}

}  // namespace slimccl::device
