// What an ncclComm_t stands for. A handle is a number in disguise, never reused and never
// dereferenced: a destroyed or made-up one is an error with a text, not a crash. Any thread.
#pragma once

#include <memory>

#include "api/reduction.h"
#include "runtime/communicator.h"

namespace slimccl::api {

struct Entry {
  std::shared_ptr<runtime::Communicator> communicator;
  std::shared_ptr<Reductions> reductions;
};

[[nodiscard]] ncclComm_t add(std::shared_ptr<runtime::Communicator> communicator);
// Throws Error for a handle that names no living communicator.
[[nodiscard]] Entry find(ncclComm_t handle);
// The handle names nothing from now on.
void forget(ncclComm_t handle) noexcept;

}  // namespace slimccl::api
