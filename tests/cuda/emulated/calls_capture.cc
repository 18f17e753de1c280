// stub
#include "cuda/emulated/exported.h"
#include "cuda/emulated/state.h"
namespace slimccl::device {
using namespace slimccl::emulated;
CUresult cuStreamBeginCapture_v2(CUstream, CUconstant) {
  return call(__func__, [&] { throw Refused{CUDA_ERROR_NOT_SUPPORTED}; });
}
CUresult cuStreamEndCapture(CUstream, CUgraph*) {
  return call(__func__, [&] { throw Refused{CUDA_ERROR_NOT_SUPPORTED}; });
}
CUresult cuStreamIsCapturing(CUstream, CUconstant* status) {
  return call(__func__, [&] { *status = CU_STREAM_CAPTURE_STATUS_NONE; });
}
CUresult cuStreamGetCaptureInfo_v3(CUstream, CUconstant* status, uint64_t*, CUgraph*,
                                   const CUgraphNode**, const void**, size_t*) {
  return call(__func__, [&] { *status = CU_STREAM_CAPTURE_STATUS_NONE; });
}
CUresult cuThreadExchangeStreamCaptureMode(CUconstant* mode) {
  return call(__func__, [&] {
    thread_local CUconstant current_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    std::swap(*mode, current_mode);
  });
}
CUresult cuGraphDestroy(CUgraph) {
  return call(__func__, [&] { throw Refused{CUDA_ERROR_NOT_SUPPORTED}; });
}
}  // namespace slimccl::device
