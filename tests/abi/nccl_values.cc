// Compiled twice, with NCCL_HEADER and VALUES_FUNCTION set: see nvidia_header_test.cc.
#include NCCL_HEADER

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#define V(name) \
  { #name, static_cast < long>(name) }

std::vector<std::pair<std::string, long>> VALUES_FUNCTION() {
  // Signatures: a pointer of the declared type must take the function.
  using Collective = ncclResult_t (*)(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t,
                                      ncclComm_t, cudaStream_t);
  static_assert(std::is_same_v<decltype(&ncclReduceScatter), Collective>);
  static_assert(std::is_same_v<decltype(&ncclAllReduce), Collective>);
  static_assert(std::is_same_v<decltype(&ncclAllGather),
                               ncclResult_t (*)(const void*, void*, size_t, ncclDataType_t,
                                                ncclComm_t, cudaStream_t)>);
  static_assert(std::is_same_v<decltype(&ncclCommInitRank),
                               ncclResult_t (*)(ncclComm_t*, int, ncclUniqueId, int)>);
  static_assert(std::is_same_v<decltype(&ncclRedOpCreatePreMulSum),
                               ncclResult_t (*)(ncclRedOp_t*, void*, ncclDataType_t,
                                                ncclScalarResidence_t, ncclComm_t)>);
  static_assert(std::is_same_v<decltype(&ncclCommGetAsyncError),
                               ncclResult_t (*)(ncclComm_t, ncclResult_t*)>);
  static_assert(std::is_same_v<decltype(&ncclGetLastError), const char* (*)(ncclComm_t)>);
  return {V(ncclSuccess),
          V(ncclUnhandledCudaError),
          V(ncclSystemError),
          V(ncclInternalError),
          V(ncclInvalidArgument),
          V(ncclInvalidUsage),
          V(ncclRemoteError),
          V(ncclInProgress),
          V(ncclNumResults),
          V(ncclSum),
          V(ncclProd),
          V(ncclMax),
          V(ncclMin),
          V(ncclAvg),
          V(ncclNumOps),
          V(ncclMaxRedOp),
          V(ncclInt8),
          V(ncclChar),
          V(ncclUint8),
          V(ncclInt32),
          V(ncclInt),
          V(ncclUint32),
          V(ncclInt64),
          V(ncclUint64),
          V(ncclFloat16),
          V(ncclHalf),
          V(ncclFloat32),
          V(ncclFloat),
          V(ncclFloat64),
          V(ncclDouble),
          V(ncclBfloat16),
          V(ncclFloat8e4m3),
          V(ncclFloat8e5m2),
          V(ncclNumTypes),
          V(ncclScalarDevice),
          V(ncclScalarHostImmediate),
          V(NCCL_UNIQUE_ID_BYTES),
          V(sizeof(ncclUniqueId)),
          V(alignof(ncclUniqueId)),
          V(sizeof(ncclResult_t)),
          V(sizeof(ncclRedOp_t)),
          V(sizeof(ncclDataType_t)),
          V(sizeof(ncclComm_t))};
}
