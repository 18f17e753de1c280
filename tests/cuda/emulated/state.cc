#include "cuda/emulated/state.h"

#include <algorithm>
#include <cstdio>

#include "cuda/emulated/control.h"
#include "cuda/emulated/settings.h"

namespace slimccl::emulated {

State::State() : contexts(static_cast<size_t>(settings().devices)) {
  for (size_t i = 0; i < contexts.size(); ++i) contexts[i].device = static_cast<int>(i);
  char name[64];
  int nth = 0, result = 0, rank = settings().rank;
  if (std::sscanf(settings().fail.c_str(), "%63[^:]:%d:%d:%d", name, &nth, &result, &rank) >= 3) {
    if (rank == settings().rank) failures[name] = {nth, result};
    failing = !failures.empty();
  } else if (!settings().fail.empty()) {
    fault("SLIMCCL_EMULATED_FAIL=" + settings().fail +
          " is not NAME:N:RESULT or NAME:N:RESULT:RANK");
  }
}

State& state() {
  static State& only = *new State;
  return only;
}

int admit(const char* function) {
  // A host function that calls CUDA may deadlock on a GPU; here it always fails.
  if (on_host_function_thread()) return CUDA_ERROR_NOT_PERMITTED;
  if (!state().failing) return CUDA_SUCCESS;
  const std::lock_guard lock(state().mutex);
  const int nth = ++state().calls[function];
  const auto failure = state().failures.find(function);
  const bool fails = failure != state().failures.end() && failure->second.first == nth;
  return fails ? failure->second.second : CUDA_SUCCESS;
}

CUresult admit_to_driver(const char* function) {
  const auto admitted = static_cast<CUresult>(admit(function));
  if (admitted != CUDA_SUCCESS || state().initialized) return admitted;
  const std::string name = function;
  const bool needs_init = name != "cuInit" && name != "cuDriverGetVersion";
  return needs_init ? CUDA_ERROR_NOT_INITIALIZED : CUDA_SUCCESS;
}

Context*& current_slot() {
  thread_local Context* current = nullptr;
  return current;
}

Context& current() {
  Context* context = current_slot();
  require(context != nullptr && context->retained > 0, CUDA_ERROR_INVALID_CONTEXT);
  return *context;
}

CUcontext handle_of(Context* context) { return reinterpret_cast<CUcontext>(context); }

Context* context_of(CUcontext handle) {
  if (handle == nullptr) return nullptr;
  for (Context& context : state().contexts) {
    if (handle_of(&context) == handle && context.retained > 0) return &context;
  }
  throw Refused{CUDA_ERROR_INVALID_CONTEXT};
}

Context& context_of_device(CUdevice device) {
  require(device >= 0 && device < settings().devices, CUDA_ERROR_INVALID_DEVICE);
  return state().contexts[static_cast<size_t>(device)];
}

namespace {

// CUDA's names for stream 0 and the calling thread's own stream, where a handle is expected.
const auto kLegacyStream = reinterpret_cast<CUstream>(1);
const auto kThreadStream = reinterpret_cast<CUstream>(2);

// The calling thread's streams, closed when it ends.
struct ThreadStreams {
  struct One {
    int generation = 0;
    std::shared_ptr<Stream> stream;
  };
  std::map<Context*, One> by_context;

  ~ThreadStreams() {
    for (const auto& [context, one] : by_context) one.stream->close();
  }
};

std::shared_ptr<Stream> thread_stream(Context& context) {
  thread_local ThreadStreams own;
  const std::lock_guard lock(state().mutex);
  ThreadStreams::One& one = own.by_context[&context];
  if (one.stream == nullptr || one.generation != context.generation) {
    if (one.stream != nullptr) one.stream->close();
    one = {context.generation, Stream::start(context, true)};
    context.streams.push_back(one.stream);
  }
  return one.stream;
}

}  // namespace

std::shared_ptr<Stream> stream_of(CUstream handle) {
  if (handle == nullptr || handle == kLegacyStream) return current().stream_0;
  return handle == kThreadStream ? thread_stream(current()) : state().streams.get(handle);
}

std::shared_ptr<Stream> own_stream_of(CUstream handle) {
  Context& context = current();
  std::shared_ptr<Stream> stream = stream_of(handle);
  require(&stream->context == &context, CUDA_ERROR_INVALID_HANDLE);
  return stream;
}

namespace {

std::vector<std::shared_ptr<Stream>> streams_of(Context& context) {
  const std::lock_guard lock(state().mutex);
  std::vector<std::shared_ptr<Stream>> alive;
  for (const auto& stream : context.streams) {
    if (auto shared = stream.lock()) alive.push_back(std::move(shared));
  }
  std::erase_if(context.streams, [](const auto& stream) { return stream.expired(); });
  return alive;
}

void wait_before(Stream& stream, const std::shared_ptr<Stream>& earlier) {
  const uint64_t ticket = earlier->pushed();
  stream.push("turns with stream 0",
              [earlier, ticket](std::mt19937&) { earlier->wait(ticket, "turns with stream 0"); });
}

}  // namespace

uint64_t enqueue(Stream& stream, const std::string& what, Stream::Work work) {
  if (captures_operation(stream)) return stream.pushed();
  const std::shared_ptr<Stream>& stream_0 = stream.context.stream_0;
  if (&stream == stream_0.get()) {
    for (const auto& other : streams_of(stream.context)) {
      if (other != stream_0 && other->blocking && !other->idle()) wait_before(stream, other);
    }
  } else if (stream.blocking && !stream_0->idle()) {
    wait_before(stream, stream_0);
  }
  return stream.push(what, std::move(work));
}

void synchronize(Context& context, const std::string& what) {
  for (const auto& stream : streams_of(context)) stream->wait(stream->pushed(), what);
}

}  // namespace slimccl::emulated

void slimccl_emulated_fail(const char* function, int nth, int result) {
  using namespace slimccl::emulated;
  const std::lock_guard lock(state().mutex);
  state().calls[function] = 0;
  state().failures[function] = {nth, result};
  state().failing = true;
}

int slimccl_emulated_admit(const char* function) { return slimccl::emulated::admit(function); }

unsigned slimccl_emulated_seed() { return slimccl::emulated::settings().seed; }
