#include "cuda/emulated/state.h"

#include <algorithm>
#include <cstdio>

#include "cuda/emulated/control.h"
#include "cuda/emulated/settings.h"

namespace slimccl::emulated {

State::State() : contexts(static_cast<size_t>(settings().devices)) {
  for (size_t i = 0; i < contexts.size(); ++i) contexts[i].device = static_cast<int>(i);
  char name[64];
  int nth = 0, result = 0;
  if (std::sscanf(settings().fail.c_str(), "%63[^:]:%d:%d", name, &nth, &result) == 3) {
    failures[name] = {nth, static_cast<CUresult>(result)};
  } else if (!settings().fail.empty()) {
    fault("SLIMCCL_EMULATED_FAIL=" + settings().fail + " is not NAME:N:RESULT");
  }
}

State& state() {
  static State& only = *new State;
  return only;
}

CUresult admit(const std::string& function) {
  // A host function that calls the driver may deadlock on a GPU; here it always fails.
  if (on_host_function_thread()) return CUDA_ERROR_NOT_PERMITTED;
  const std::lock_guard lock(state().mutex);
  const int nth = ++state().calls[function];
  const auto failure = state().failures.find(function);
  if (failure != state().failures.end() && failure->second.first == nth) {
    return failure->second.second;
  }
  const bool needs_init = function != "cuInit" && function != "cuDriverGetVersion";
  return needs_init && !state().initialized ? CUDA_ERROR_NOT_INITIALIZED : CUDA_SUCCESS;
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

namespace {

// A thread's own default streams, one for each context; closed with the thread.
struct OwnStreams {
  std::map<Context*, std::shared_ptr<Stream>> streams;

  ~OwnStreams() {
    for (const auto& each : streams) each.second->close();
  }
  std::shared_ptr<Stream> of(Context& context) {
    std::shared_ptr<Stream>& stream = streams[&context];
    if (!stream) {
      stream = Stream::start(context, true);
      const std::lock_guard lock(state().mutex);
      context.streams.push_back(stream);
    }
    return stream;
  }
};

}  // namespace

std::shared_ptr<Stream> stream_of(CUstream handle) {
  thread_local OwnStreams own;
  if (handle == nullptr || handle == legacy_stream()) return current().stream_0;
  if (handle == per_thread_stream()) return own.of(current());
  return state().streams.get(handle);
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
  state().failures[function] = {nth, static_cast<CUresult>(result)};
}

unsigned slimccl_emulated_seed() { return slimccl::emulated::settings().seed; }
