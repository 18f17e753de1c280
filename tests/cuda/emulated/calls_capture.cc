// The emulated driver's calls about capture and graphs.
#include "cuda/emulated/capture.h"
#include "cuda/emulated/exported.h"
#include "cuda/emulated/state.h"

namespace slimccl::device {

using namespace slimccl::emulated;

CUresult cuStreamBeginCapture_v2(CUstream handle, CUconstant mode) {
  return call(__func__, [&] { begin_capture(own_stream_of(handle), mode); });
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  return call(__func__, [&] {
    *graph = nullptr;
    *graph = state().graphs.add(end_capture(stream_of(handle)));
  });
}

CUresult cuStreamIsCapturing(CUstream handle, CUconstant* status) {
  return call(__func__, [&] { *status = capture_info(*stream_of(handle)).status; });
}

// There is no graph to show yet, so whoever asks for it is refused.
CUresult cuStreamGetCaptureInfo_v3(CUstream handle, CUconstant* status, uint64_t* id,
                                   CUgraph* graph, const CUgraphNode** nodes, const void** edges,
                                   size_t* count) {
  return call(__func__, [&] {
    const CaptureInfo info = capture_info(*stream_of(handle));
    const bool asks_for_graph =
        graph != nullptr || nodes != nullptr || edges != nullptr || count != nullptr;
    const bool captures = info.status != CU_STREAM_CAPTURE_STATUS_NONE;
    require(!captures || !asks_for_graph, CUDA_ERROR_NOT_SUPPORTED);
    *status = info.status;
    if (id != nullptr) *id = info.id;
  });
}

CUresult cuThreadExchangeStreamCaptureMode(CUconstant* mode) {
  return call(__func__, [&] { *mode = exchange_capture_mode(*mode); });
}

CUresult cuGraphDestroy(CUgraph graph) {
  return call(__func__, [&] { (void)state().graphs.take(graph); });
}

}  // namespace slimccl::device
