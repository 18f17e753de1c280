// The collectives: arguments are checked here, everything else is the communicator's.
#include "api/export.h"
#include "api/guard.h"
#include "api/registry.h"
#include "base/error.h"
#include "quant/codec.h"

namespace api = slimccl::api;
using slimccl::check;
using slimccl::collectives::Collective;
using slimccl::collectives::Scaling;

namespace {

struct Arguments {
  const void* sendbuff;
  void* recvbuff;
  size_t count;
  const char* count_name;
  ncclDataType_t type;
  cudaStream_t stream;
};

void check_arguments(const Arguments& given, int ranks) {
  const uint64_t element = slimccl::quant::type_bytes(given.type);
  check(given.stream == nullptr, ncclInvalidUsage,
        "stream is not null; streams are not there yet: pass NULL, the call returns when its "
        "result is there");
  const uint64_t most = static_cast<uint64_t>(INT64_MAX) / element / static_cast<uint64_t>(ranks);
  check(given.count <= most, ncclInvalidArgument, given.count_name, " = ", given.count,
        " elements on ", ranks, " ranks is more bytes than there can be");
  if (given.count == 0) return;
  check(given.sendbuff != nullptr, ncclInvalidArgument, "sendbuff is null with ", given.count_name,
        " = ", given.count);
  check(given.recvbuff != nullptr, ncclInvalidArgument, "recvbuff is null with ", given.count_name,
        " = ", given.count);
}

void reduce(Collective collective, const Arguments& given, ncclRedOp_t op, ncclComm_t comm) {
  const api::Entry entry = api::find(comm);
  check_arguments(given, entry.communicator->ranks());
  const api::ScaledSum sum = entry.reductions->resolve(op, given.type, entry.communicator->ranks());
  entry.communicator->run({collective, given.type, given.count, sum.scaling, sum.scale,
                           given.sendbuff, given.recvbuff});
}

}  // namespace

SLIMCCL_EXPORT ncclResult_t ncclAllGather(const void* sendbuff, void* recvbuff, size_t sendcount,
                                          ncclDataType_t datatype, ncclComm_t comm,
                                          cudaStream_t stream) {
  return api::guard("ncclAllGather", [&] {
    const api::Entry entry = api::find(comm);
    check_arguments({sendbuff, recvbuff, sendcount, "sendcount", datatype, stream},
                    entry.communicator->ranks());
    entry.communicator->run(
        {Collective::kAllGather, datatype, sendcount, Scaling::kNone, 1.0f, sendbuff, recvbuff});
  });
}

SLIMCCL_EXPORT ncclResult_t ncclReduceScatter(const void* sendbuff, void* recvbuff,
                                              size_t recvcount, ncclDataType_t datatype,
                                              ncclRedOp_t op, ncclComm_t comm,
                                              cudaStream_t stream) {
  return api::guard("ncclReduceScatter", [&] {
    reduce(Collective::kReduceScatter,
           {sendbuff, recvbuff, recvcount, "recvcount", datatype, stream}, op, comm);
  });
}

SLIMCCL_EXPORT ncclResult_t ncclAllReduce(const void* sendbuff, void* recvbuff, size_t count,
                                          ncclDataType_t datatype, ncclRedOp_t op, ncclComm_t comm,
                                          cudaStream_t stream) {
  return api::guard("ncclAllReduce", [&] {
    reduce(Collective::kAllReduce, {sendbuff, recvbuff, count, "count", datatype, stream}, op,
           comm);
  });
}

SLIMCCL_EXPORT ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* scalar,
                                                     ncclDataType_t datatype,
                                                     ncclScalarResidence_t residence,
                                                     ncclComm_t comm) {
  return api::guard("ncclRedOpCreatePreMulSum", [&] {
    check(op != nullptr, ncclInvalidArgument, "op is null");
    *op = api::find(comm).reductions->create(scalar, datatype, residence);
  });
}

SLIMCCL_EXPORT ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t comm) {
  return api::guard("ncclRedOpDestroy", [&] { api::find(comm).reductions->destroy(op); });
}
