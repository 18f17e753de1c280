// Runs CUDA kernels, compiled by g++, on the CPU: the threads of a block are fibers of the calling
// thread, blocks run one after the other. Barriers and warp shuffles are where fibers take turns;
// what CUDA leaves undefined there is reported. It proves bits and order, and nothing about speed.
//
// A machine belongs to the calling thread, so several threads may run grids at the same time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace slimccl::twin {

enum class WarpOrder { kForward, kBackward };  // who of the warps that can run comes first

// What keeps this build from running fibers, or null.
const char* unavailable();

// Runs `body` once for each thread of each block. `kernel` is for reports, and outlives the call.
// `threads` is at most kMaxThreads and a multiple of a warp.
void run_grid(const char* kernel, uint32_t blocks, uint32_t threads, WarpOrder order,
              const std::function<void()>& body);

inline constexpr uint32_t kWarp = 32;
inline constexpr uint32_t kMaxThreads = 1024;

// Prints what is wrong, with the kernel, block and thread that did it, and aborts.
[[noreturn]] void fail(const std::string& what);

// Below: what the running kernel calls, through device.h.

// All threads of the block meet here, at the same place in the source.
void barrier(const char* file, int line);

// All lanes named in `mask` meet at the same place; each gets the value of lane `lane ^ step`.
uint32_t exchange(uint32_t mask, uint32_t value, uint32_t step, const char* file, int line);

}  // namespace slimccl::twin
