// Looks at a little of what calls carry, without holding up the program: the copy is enqueued on
// the call's own stream, and read once it has arrived.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/plausible.h"
#include "device/cuda/driver.h"

namespace slimccl::overlay {

// One communicator's, for one thread at a time. The driver must outlive it.
class Sampler {
 public:
  // Takes pinned memory of the host. Throws Error if CUDA refuses.
  Sampler(const device::Driver& driver, device::CUcontext context);
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;
  ~Sampler();

  struct Sample {
    size_t kind;
    Content content;
  };
  // Copies some of `elems` elements at `data` as the stream has them now. Nothing happens if too
  // many copies are still under way: another call will do. Throws Error if CUDA refuses.
  void take(size_t kind, const void* data, uint64_t elems, ncclDataType_t type,
            device::CUstream stream);
  // What has arrived since the last time.
  [[nodiscard]] std::vector<Sample> arrived();

 private:
  static constexpr size_t kAtOnce = 4;

  struct Place {
    std::byte* memory = nullptr;
    device::CUevent copied = nullptr;
    bool busy = false;
    size_t kind = 0;
    uint64_t bytes = 0;
    ncclDataType_t type = ncclFloat;
  };

  void free() noexcept;

  const device::Driver& driver_;
  const device::CUcontext context_;
  std::array<Place, kAtOnce> places_;
};

}  // namespace slimccl::overlay
