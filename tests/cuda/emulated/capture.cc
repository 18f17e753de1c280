#include "cuda/emulated/capture.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/emulated/state.h"

namespace slimccl::emulated {

// A stream's part in a capture. What it did must be waited for by another stream of it.
struct Branch {
  uint64_t operations = 0, joined = 0;
};

struct Capture {
  uint64_t id = 0;
  CUconstant mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::thread::id thread;  // that began it
  std::shared_ptr<Stream> origin;
  std::map<std::shared_ptr<Stream>, Branch> branches;
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  bool valid = true, ended = false;
};

// Where in its capture an event was recorded.
struct CaptureMark {
  std::shared_ptr<Capture> capture;
  std::shared_ptr<Stream> stream;
  uint64_t operations = 0;
};

namespace {

std::atomic<bool> ever_captured = false;
thread_local CUconstant thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

struct Captures {
  std::mutex mutex;  // of all here, and of each Stream::capture and Event::mark
  std::vector<std::shared_ptr<Capture>> active;
  uint64_t begun = 0;
};
Captures& captures() {
  static Captures& only = *new Captures;
  return only;
}

[[noreturn]] void invalidate(Capture& capture, CUresult why) {
  capture.valid = false;
  throw Refused{why};
}

bool is_stream_0(const Stream& stream) { return &stream == stream.context.stream_0.get(); }

// A capture that stream 0 would have to take turns with.
Capture* beside_stream_0(const Stream& stream) {
  if (!is_stream_0(stream)) return nullptr;
  for (const auto& capture : captures().active) {
    for (const auto& [member, branch] : capture->branches) {
      if (member->blocking && &member->context == &stream.context) return capture.get();
    }
  }
  return nullptr;
}

void forbid_beside_stream_0(const Stream& stream) {
  if (Capture* capture = beside_stream_0(stream)) {
    invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  }
}

void require_valid(const Capture& capture) {
  require(capture.valid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

void finish(const std::shared_ptr<Capture>& capture) {
  capture->ended = true;
  for (const auto& [stream, branch] : capture->branches) stream->capture = nullptr;
  std::erase(captures().active, capture);
}

}  // namespace

void begin_capture(const std::shared_ptr<Stream>& stream, CUconstant mode) {
  ever_captured = true;
  const std::lock_guard lock(captures().mutex);
  require(mode <= CU_STREAM_CAPTURE_MODE_RELAXED, CUDA_ERROR_INVALID_VALUE);
  require(!is_stream_0(*stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  require(stream->capture == nullptr, CUDA_ERROR_ILLEGAL_STATE);
  auto capture = std::make_shared<Capture>();
  capture->id = ++captures().begun;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = stream;
  capture->branches[stream] = {};
  stream->capture = capture;
  captures().active.push_back(std::move(capture));
}

std::shared_ptr<Graph> end_capture(const std::shared_ptr<Stream>& stream) {
  const std::lock_guard lock(captures().mutex);
  const std::shared_ptr<Capture> capture = stream->capture;
  require(capture != nullptr, CUDA_ERROR_ILLEGAL_STATE);
  if (capture->origin != stream) invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  const bool any_thread = capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED;
  require(any_thread || capture->thread == std::this_thread::get_id(),
          CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
  finish(capture);
  require_valid(*capture);
  for (const auto& [member, branch] : capture->branches) {
    const bool joined = member == stream || branch.joined >= branch.operations;
    require(joined, CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
  }
  return capture->graph;
}

CaptureInfo capture_info(const Stream& stream) {
  if (!ever_captured) return {};
  const std::lock_guard lock(captures().mutex);
  require(beside_stream_0(stream) == nullptr, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  if (stream.capture == nullptr) return {};
  return {stream.capture->valid ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                : CU_STREAM_CAPTURE_STATUS_INVALIDATED,
          stream.capture->id};
}

CUconstant exchange_capture_mode(CUconstant mode) {
  require(mode <= CU_STREAM_CAPTURE_MODE_RELAXED, CUDA_ERROR_INVALID_VALUE);
  return std::exchange(thread_mode, mode);
}

bool captures_operation(Stream& stream) {
  if (!ever_captured) return false;
  const std::lock_guard lock(captures().mutex);
  forbid_beside_stream_0(stream);
  if (stream.capture == nullptr) return false;
  require_valid(*stream.capture);
  ++stream.capture->branches[stream.shared_from_this()].operations;
  ++stream.capture->graph->operations;
  return true;
}

bool captures_recording(Event& event, Stream& stream) {
  if (!ever_captured) return false;
  const std::lock_guard lock(captures().mutex);
  event.mark = nullptr;
  const std::shared_ptr<Capture>& capture = stream.capture;
  if (capture == nullptr) return false;
  require_valid(*capture);
  const std::shared_ptr<Stream> shared = stream.shared_from_this();
  event.mark = std::make_shared<CaptureMark>(
      CaptureMark{capture, shared, capture->branches[shared].operations});
  return true;
}

bool captures_wait(const std::shared_ptr<Stream>& stream, const Event& event) {
  if (!ever_captured) return false;
  const std::lock_guard lock(captures().mutex);
  if (stream->capture != nullptr) require_valid(*stream->capture);
  if (event.mark == nullptr) {
    if (stream->capture == nullptr) return false;
    invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
  }
  Capture& capture = *event.mark->capture;
  require(!capture.ended, CUDA_ERROR_CAPTURED_EVENT);
  require_valid(capture);
  if (is_stream_0(*stream)) invalidate(capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  if (stream->capture != nullptr && stream->capture != event.mark->capture) {
    stream->capture->valid = false;
    invalidate(capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
  }
  stream->capture = event.mark->capture;
  Branch& waits = capture.branches[stream];
  // What it waits for of others than the origin must be joined with its own work.
  if (event.mark->stream != capture.origin) ++waits.operations;
  Branch& waited_for = capture.branches[event.mark->stream];
  waited_for.joined = std::max(waited_for.joined, event.mark->operations);
  return true;
}

void forbid_in_capture(const Stream& stream) {
  if (!ever_captured) return;
  const std::lock_guard lock(captures().mutex);
  forbid_beside_stream_0(stream);
  if (stream.capture != nullptr) {
    invalidate(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  }
}

void forbid_in_capture(const Context& context) {
  if (!ever_captured) return;
  const std::lock_guard lock(captures().mutex);
  for (const auto& capture : captures().active) {
    if (&capture->origin->context == &context) {
      invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
  }
}

void forbid_if_captured(const Event& event) {
  if (!ever_captured) return;
  const std::lock_guard lock(captures().mutex);
  if (event.mark == nullptr) return;
  if (!event.mark->capture->ended) invalidate(*event.mark->capture, CUDA_ERROR_CAPTURED_EVENT);
  throw Refused{CUDA_ERROR_CAPTURED_EVENT};
}

void forbid_unsafe_in_capture() {
  if (!ever_captured || thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return;
  const std::lock_guard lock(captures().mutex);
  for (const auto& capture : captures().active) {
    const bool own = capture->thread == std::this_thread::get_id() &&
                     capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
    const bool global = thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                        capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (own || global) invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  }
}

}  // namespace slimccl::emulated
