// What the calls of the emulated driver share: devices and their primary contexts, the thread's
// current context, live handles, errors to inject. The state is the process's; calls from any
// thread.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/emulated/fatbin.h"
#include "cuda/emulated/stream.h"
#include "device/cuda/abi.h"

namespace slimccl::emulated {

using namespace slimccl::device;  // NVIDIA's names

// A call's body throws this to return another result than success.
struct Refused {
  CUresult result;
};
inline void require(bool holds, CUresult otherwise) {
  if (!holds) throw Refused{otherwise};
}

struct Context {
  int device = 0;
  int retained = 0;
  std::shared_ptr<Stream> stream_0;
  std::vector<std::weak_ptr<Stream>> streams;  // all that may have work, stream 0 among them
};

struct Library {
  std::vector<Image> images;
};
struct Kernel {
  std::shared_ptr<Library> library;
  std::string name;
};

// The live objects of one kind. A handle is the object's address; anything else is refused.
template <class T, class Handle>
class Handles {
 public:
  Handle add(std::shared_ptr<T> object) {
    const std::lock_guard lock(mutex_);
    T* address = object.get();
    live_[address] = std::move(object);
    return reinterpret_cast<Handle>(address);
  }
  std::shared_ptr<T> get(Handle handle) {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(reinterpret_cast<void*>(handle));
    require(found != live_.end(), CUDA_ERROR_INVALID_HANDLE);
    return found->second;
  }
  std::shared_ptr<T> take(Handle handle) {
    std::shared_ptr<T> object = get(handle);
    const std::lock_guard lock(mutex_);
    live_.erase(object.get());
    return object;
  }

 private:
  std::mutex mutex_;
  std::map<void*, std::shared_ptr<T>> live_;
};

struct State {
  State();

  std::mutex mutex;  // of all but the handles, which lock themselves
  bool initialized = false;
  std::vector<Context> contexts;                             // by device; never moved
  std::map<std::string, int> calls;                          // so far, by function
  std::map<std::string, std::pair<int, CUresult>> failures;  // at which call, with what

  Handles<Stream, CUstream> streams;
  Handles<Event, CUevent> events;
  Handles<Library, CUlibrary> libraries;
  Handles<Kernel, CUkernel> kernels;
};
[[nodiscard]] State& state();

// What every call passes first: success, or what it returns instead of doing anything.
[[nodiscard]] CUresult admit(const std::string& function);

// The body of an exported function.
template <class Body>
CUresult call(const char* function, Body&& body) noexcept {
  try {
    const CUresult admitted = admit(function);
    if (admitted == CUDA_SUCCESS) body();
    return admitted;
  } catch (const Refused& refused) {
    return refused.result;
  }
}

[[nodiscard]] Context*& current_slot();  // of this thread; null: none
[[nodiscard]] Context& current();        // refuses if there is none
[[nodiscard]] CUcontext handle_of(Context* context);
[[nodiscard]] Context* context_of(CUcontext handle);  // refuses a context that is not retained

// The stream of a handle; null and 1 are the current context's stream 0, 2 is the thread's own.
[[nodiscard]] std::shared_ptr<Stream> stream_of(CUstream handle);
// The same, refused unless it belongs to the current context.
[[nodiscard]] std::shared_ptr<Stream> own_stream_of(CUstream handle);
// Enqueues work, in turn with stream 0 where CUDA says so; the ticket to wait for.
uint64_t enqueue(Stream& stream, const std::string& what, Stream::Work work);
// Waits until all that was enqueued in the context is done.
void synchronize(Context& context, const std::string& what);

}  // namespace slimccl::emulated
