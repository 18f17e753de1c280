// The CUDA driver as a table of functions, found at run time: nothing of SlimCCL is linked to it,
// so machines without a GPU never notice. One Driver serves the whole process, from any thread; who
// makes it hands it down. It stays loaded until the process ends, as NVIDIA's driver must.
#pragma once

#include <string>

#include "device/cuda/abi.h"

namespace slimccl::device {

class Driver;

template <class Signature>
class DriverCall;

// One function of the driver.
template <class... Parameters>
class DriverCall<CUresult(Parameters...)> {
 public:
  DriverCall(const Driver& driver, const char* name, const char* symbol);
  // Throws Error with the call's name, the driver's own words and the device unless it succeeds.
  void operator()(Parameters... parameters) const { check(function_(parameters...)); }
  // For calls of which other results are expected, such as cuStreamQuery.
  [[nodiscard]] CUresult result(Parameters... parameters) const { return function_(parameters...); }

 private:
  void check(CUresult result) const;

  const Driver& driver_;
  const char* name_;
  CUresult (*function_)(Parameters...);
};

class Driver {
  const std::string library_;
  void* const handle_;

 public:
  // Throws Error when the library is missing, too old or without one of the functions.
  explicit Driver(const std::string& library = "libcuda.so.1");
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  ~Driver() = default;

  [[nodiscard]] void* symbol(const char* name, const char* symbol) const;
  [[noreturn]] void fail(const char* name, CUresult result) const;

#define SLIMCCL_CALL(name, symbol, ...) \
  const DriverCall<CUresult(__VA_ARGS__)> name{*this, #name, #symbol};
  SLIMCCL_CUDA_FUNCTIONS(SLIMCCL_CALL)
#undef SLIMCCL_CALL
};

template <class... Parameters>
DriverCall<CUresult(Parameters...)>::DriverCall(const Driver& driver, const char* name,
                                                const char* symbol)
    : driver_(driver),
      name_(name),
      function_(reinterpret_cast<CUresult (*)(Parameters...)>(driver.symbol(name, symbol))) {}

template <class... Parameters>
void DriverCall<CUresult(Parameters...)>::check(CUresult result) const {
  if (result != CUDA_SUCCESS) driver_.fail(name_, result);
}

}  // namespace slimccl::device
