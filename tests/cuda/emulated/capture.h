// Stream capture, as far as its rules go: which streams are in one, what is an error meanwhile, how
// it ends. Operations of a captured stream are counted and not done, as on a GPU; the graph is
// their number and cannot be launched. A broken rule ends the capture that it belongs to, and is
// thrown. Calls from any thread; until the first capture all of them return at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cuda/emulated/more_abi.h"
#include "cuda/emulated/stream.h"

namespace slimccl::emulated {

using namespace slimccl::device;  // NVIDIA's names

struct Graph {
  size_t operations = 0;
};

struct CaptureInfo {
  CUconstant status = CU_STREAM_CAPTURE_STATUS_NONE;
  uint64_t id = 0;
};

void begin_capture(const std::shared_ptr<Stream>& stream, CUconstant mode);
[[nodiscard]] std::shared_ptr<Graph> end_capture(const std::shared_ptr<Stream>& stream);
[[nodiscard]] CaptureInfo capture_info(const Stream& stream);
// Sets the calling thread's mode, which says what it is forbidden; the one before.
CUconstant exchange_capture_mode(CUconstant mode);

// An operation: true if the stream captures it, so that it is not to be done.
[[nodiscard]] bool captures_operation(Stream& stream);
// The event's recording in this stream: true if it is part of a capture.
[[nodiscard]] bool captures_recording(Event& event, Stream& stream);
// A wait in this stream: true if it is part of a capture, which the stream then belongs to.
[[nodiscard]] bool captures_wait(const std::shared_ptr<Stream>& stream, const Event& event);

// What may not happen to a stream in capture, to a context that has one, to a captured event; and
// what CUDA calls potentially unsafe: allocation, and whatever waits or asks.
void forbid_in_capture(const Stream& stream);
void forbid_in_capture(const Context& context);
void forbid_if_captured(const Event& event);
void forbid_unsafe_in_capture();

}  // namespace slimccl::emulated
