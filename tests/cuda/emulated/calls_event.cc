// The emulated driver's calls about events.
#include <chrono>

#include "cuda/emulated/exported.h"
#include "cuda/emulated/state.h"

namespace slimccl::device {

using namespace slimccl::emulated;

namespace {

void record(CUevent event_handle, CUstream handle) {
  const std::shared_ptr<Event> event = state().events.get(event_handle);
  const std::shared_ptr<Stream> stream = stream_of(handle);
  require(&event->context == &stream->context, CUDA_ERROR_INVALID_HANDLE);
  if (captures_recording(*event, *stream)) return;
  const uint64_t ticket = event->record();
  enqueue(*stream, "record an event", [event, ticket](std::mt19937&) { event->reached(ticket); });
}

}  // namespace

CUresult cuEventCreate(CUevent* handle, unsigned flags) {
  return call(__func__, [&] {
    const bool timed = (flags & CU_EVENT_DISABLE_TIMING) == 0;
    constexpr unsigned kKnown = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING;
    require((flags & CU_EVENT_INTERPROCESS) == 0, CUDA_ERROR_NOT_SUPPORTED);
    require((flags & ~kKnown) == 0, CUDA_ERROR_INVALID_VALUE);
    *handle = state().events.add(std::make_shared<Event>(current(), timed));
  });
}

CUresult cuEventDestroy_v2(CUevent handle) {
  return call(__func__, [&] { (void)state().events.take(handle); });
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  return call(__func__, [&] { record(event, stream); });
}

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned flags) {
  return call(__func__, [&] {
    require(flags == 0, CUDA_ERROR_NOT_SUPPORTED);  // the others are for graphs
    record(event, stream);
  });
}

CUresult cuEventQuery(CUevent handle) {
  return call(__func__, [&] {
    const std::shared_ptr<Event> event = state().events.get(handle);
    forbid_if_captured(*event);
    forbid_unsafe_in_capture();
    require(event->has_reached(event->recorded()), CUDA_ERROR_NOT_READY);
  });
}

CUresult cuEventSynchronize(CUevent handle) {
  return call(__func__, [&] {
    const std::shared_ptr<Event> event = state().events.get(handle);
    forbid_if_captured(*event);
    forbid_unsafe_in_capture();
    event->wait(event->recorded(), "cuEventSynchronize");
  });
}

// Both must have been reached, and keep time.
CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent begin_handle, CUevent end_handle) {
  return call(__func__, [&] {
    const std::shared_ptr<Event> begin = state().events.get(begin_handle);
    const std::shared_ptr<Event> end = state().events.get(end_handle);
    for (const Event* event : {begin.get(), end.get()}) {
      require(event->timed && event->recorded() > 0, CUDA_ERROR_INVALID_HANDLE);
      require(event->has_reached(event->recorded()), CUDA_ERROR_NOT_READY);
    }
    *milliseconds = std::chrono::duration<float, std::milli>(end->time() - begin->time()).count();
  });
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned) {
  return call(__func__, [&] {
    const std::shared_ptr<Event> event = state().events.get(event_handle);
    const std::shared_ptr<Stream> stream = stream_of(handle);
    if (captures_wait(stream, *event)) return;
    const uint64_t ticket = event->recorded();
    enqueue(*stream, "wait for an event",
            [event, ticket](std::mt19937&) { event->wait(ticket, "an event, in a stream"); });
  });
}

}  // namespace slimccl::device
