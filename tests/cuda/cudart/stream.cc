// The emulated runtime's functions about streams, events and capture.
#include <memory>

#include "cuda/cudart/runtime.h"

using namespace slimccl::cudart;

namespace {

// Every function here works in the thread's context.
template <class Body>
cudaError_t bound_call(const char* function, Body&& body) noexcept {
  return call(function, [&] {
    bind();
    require_driver(body());
  });
}

cudaError_t create_event(const char* function, cudaEvent_t* event, unsigned flags) noexcept {
  return bound_call(function, [&] {
    return driver::cuEventCreate(reinterpret_cast<driver::CUevent*>(event), flags);
  });
}

cudaError_t create_stream(const char* function, cudaStream_t* stream, unsigned flags,
                          int priority) noexcept {
  return bound_call(function, [&] {
    return driver::cuStreamCreateWithPriority(reinterpret_cast<driver::CUstream*>(stream), flags,
                                              priority);
  });
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return create_stream(__func__, stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return create_stream(__func__, stream, flags, priority);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return bound_call(__func__, [&] { return driver::cuStreamDestroy_v2(handle(stream)); });
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  return bound_call(__func__,
                    [&] { return driver::cuStreamGetPriority(handle(stream), priority); });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return bound_call(__func__, [&] { return driver::cuStreamSynchronize(handle(stream)); });
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return bound_call(__func__, [&] { return driver::cuStreamQuery(handle(stream)); });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return bound_call(
      __func__, [&] { return driver::cuStreamWaitEvent(handle(stream), handle(event), flags); });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* user_data) {
  return bound_call(__func__,
                    [&] { return driver::cuLaunchHostFunc(handle(stream), function, user_data); });
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t function,
                                  void* user_data, unsigned flags) {
  struct Callback {
    cudaStream_t stream;
    cudaStreamCallback_t function;
    void* user_data;
  };
  return bound_call(__func__, [&] {
    require(function != nullptr && flags == 0, cudaErrorInvalidValue);
    auto capturing = driver::CU_STREAM_CAPTURE_STATUS_NONE;
    require_driver(driver::cuStreamIsCapturing(handle(stream), &capturing));
    require(capturing == driver::CU_STREAM_CAPTURE_STATUS_NONE, cudaErrorStreamCaptureUnsupported);
    auto callback = std::make_unique<Callback>(Callback{stream, function, user_data});
    const auto run = [](void* given) {
      const std::unique_ptr<Callback> own(static_cast<Callback*>(given));
      own->function(own->stream, cudaSuccess, own->user_data);
    };
    const auto result = driver::cuLaunchHostFunc(handle(stream), run, callback.get());
    if (result == driver::CUDA_SUCCESS) (void)callback.release();  // run() has it
    return result;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return create_event(__func__, event, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return create_event(__func__, event, flags);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return bound_call(__func__, [&] { return driver::cuEventDestroy_v2(handle(event)); });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return bound_call(__func__, [&] { return driver::cuEventRecord(handle(event), handle(stream)); });
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  return bound_call(__func__, [&] {
    return driver::cuEventRecordWithFlags(handle(event), handle(stream), flags);
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return bound_call(__func__, [&] { return driver::cuEventQuery(handle(event)); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return bound_call(__func__, [&] { return driver::cuEventSynchronize(handle(event)); });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  return bound_call(__func__, [&] {
    return driver::cuEventElapsedTime_v2(milliseconds, handle(begin), handle(end));
  });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return bound_call(__func__, [&] {
    return driver::cuStreamBeginCapture_v2(handle(stream), static_cast<driver::CUconstant>(mode));
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return bound_call(__func__, [&] {
    return driver::cuStreamEndCapture(handle(stream), reinterpret_cast<driver::CUgraph*>(graph));
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return bound_call(__func__, [&] {
    auto now = driver::CU_STREAM_CAPTURE_STATUS_NONE;
    const auto result = driver::cuStreamIsCapturing(handle(stream), &now);
    *status = static_cast<cudaStreamCaptureStatus>(now);
    return result;
  });
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t* graph,
                                     const cudaGraphNode_t** nodes, const cudaGraphEdgeData** edges,
                                     size_t* count) {
  return bound_call(__func__, [&] {
    auto now = driver::CU_STREAM_CAPTURE_STATUS_NONE;
    uint64_t number = 0;
    const auto result = driver::cuStreamGetCaptureInfo_v3(
        handle(stream), &now, &number, reinterpret_cast<driver::CUgraph*>(graph),
        reinterpret_cast<const driver::CUgraphNode**>(nodes), reinterpret_cast<const void**>(edges),
        count);
    *status = static_cast<cudaStreamCaptureStatus>(now);
    if (id != nullptr) *id = number;
    return result;
  });
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return call(__func__, [&] {
    initialize();
    auto exchanged = static_cast<driver::CUconstant>(*mode);
    require_driver(driver::cuThreadExchangeStreamCaptureMode(&exchanged));
    *mode = static_cast<cudaStreamCaptureMode>(exchanged);
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return bound_call(
      __func__, [&] { return driver::cuGraphDestroy(reinterpret_cast<driver::CUgraph>(graph)); });
}

}  // extern "C"
