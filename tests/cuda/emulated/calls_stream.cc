// The emulated driver's calls about streams, values to wait for and host functions.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "cuda/emulated/exported.h"
#include "cuda/emulated/memory.h"
#include "cuda/emulated/settings.h"
#include "cuda/emulated/state.h"

namespace slimccl::device {

using namespace slimccl::emulated;

namespace {

bool holds(unsigned condition, uint32_t seen, uint32_t value) {
  switch (condition) {
    case CU_STREAM_WAIT_VALUE_GEQ:
      return static_cast<int32_t>(seen - value) >= 0;
    case CU_STREAM_WAIT_VALUE_EQ:
      return seen == value;
    case CU_STREAM_WAIT_VALUE_AND:
      return (seen & value) != 0;
    default:
      return ~(seen | value) != 0;
  }
}

// The word that streams and the host exchange; gone when its memory is.
std::atomic_ref<uint32_t> word_at(const Context& context, CUdeviceptr address) {
  std::byte* found = memory().reach(context.device, address, sizeof(uint32_t));
  if (found == nullptr) fault("a stream's word was freed: " + memory().describe(address));
  return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(found));
}

void require_word(const Context& context, CUdeviceptr address) {
  const bool whole = memory().reach(context.device, address, sizeof(uint32_t)) != nullptr;
  require(whole && address % sizeof(uint32_t) == 0, CUDA_ERROR_INVALID_VALUE);
}

constexpr int kLeastPriority = 0, kGreatestPriority = -5;

CUstream make_stream(unsigned flags, int priority) {
  require(flags <= CU_STREAM_NON_BLOCKING, CUDA_ERROR_INVALID_VALUE);
  Context& context = current();
  auto stream = Stream::start(context, flags != CU_STREAM_NON_BLOCKING, priority);
  const std::lock_guard lock(state().mutex);
  context.streams.push_back(stream);
  return state().streams.add(std::move(stream));
}

}  // namespace

CUresult cuStreamCreate(CUstream* handle, unsigned flags) {
  return call(__func__, [&] { *handle = make_stream(flags, 0); });
}

// A priority out of range is taken for the nearest within it.
CUresult cuStreamCreateWithPriority(CUstream* handle, unsigned flags, int priority) {
  return call(__func__, [&] {
    *handle = make_stream(flags, std::clamp(priority, kGreatestPriority, kLeastPriority));
  });
}

CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  return call(__func__, [&] {
    (void)current();
    if (least != nullptr) *least = kLeastPriority;
    if (greatest != nullptr) *greatest = kGreatestPriority;
  });
}

CUresult cuStreamGetPriority(CUstream handle, int* priority) {
  return call(__func__, [&] { *priority = stream_of(handle)->priority; });
}

CUresult cuStreamGetFlags(CUstream handle, unsigned* flags) {
  return call(__func__, [&] {
    *flags = stream_of(handle)->blocking ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING;
  });
}

// Returns at once; what was enqueued is still done.
CUresult cuStreamDestroy_v2(CUstream handle) {
  return call(__func__, [&] {
    forbid_in_capture(*state().streams.get(handle));
    state().streams.take(handle)->close();
  });
}

CUresult cuStreamSynchronize(CUstream handle) {
  return call(__func__, [&] {
    const std::shared_ptr<Stream> stream = stream_of(handle);
    forbid_in_capture(*stream);
    forbid_unsafe_in_capture();
    stream->wait(stream->pushed(), "cuStreamSynchronize");
  });
}

CUresult cuStreamQuery(CUstream handle) {
  return call(__func__, [&] {
    const std::shared_ptr<Stream> stream = stream_of(handle);
    forbid_in_capture(*stream);
    forbid_unsafe_in_capture();
    require(stream->idle(), CUDA_ERROR_NOT_READY);
  });
}

CUresult cuStreamWaitValue32_v2(CUstream handle, CUdeviceptr address, uint32_t value,
                                unsigned flags) {
  return call(__func__, [&] {
    const std::shared_ptr<Stream> stream = own_stream_of(handle);
    require(flags <= CU_STREAM_WAIT_VALUE_NOR, CUDA_ERROR_INVALID_VALUE);
    const Context& context = stream->context;
    require_word(context, address);
    enqueue(*stream, "wait for a value", [=, &context](std::mt19937&) {
      using Clock = std::chrono::steady_clock;
      const auto limit = Clock::now() + std::chrono::seconds(settings().deadline_s);
      // The longer it has waited the less often it looks: many streams share few cores.
      std::chrono::microseconds pause{20};
      while (!holds(flags, word_at(context, address).load(), value)) {
        if (Clock::now() > limit)
          fault("a stream still waits for a value: " + memory().describe(address));
        std::this_thread::sleep_for(pause);
        pause = std::min(pause * 5 / 4, std::chrono::microseconds(500));
      }
    });
  });
}

CUresult cuStreamWriteValue32_v2(CUstream handle, CUdeviceptr address, uint32_t value,
                                 unsigned flags) {
  return call(__func__, [&] {
    const std::shared_ptr<Stream> stream = own_stream_of(handle);
    require(flags == 0, CUDA_ERROR_INVALID_VALUE);
    const Context& context = stream->context;
    require_word(context, address);
    enqueue(*stream, "write a value",
            [=, &context](std::mt19937&) { word_at(context, address).store(value); });
  });
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* user_data) {
  return call(__func__, [&] {
    require(function != nullptr, CUDA_ERROR_INVALID_VALUE);
    enqueue(*stream_of(handle), "host function",
            [=](std::mt19937&) { run_host_function(function, user_data); });
  });
}

}  // namespace slimccl::device
