// The collectives: arguments are checked here, everything else is the communicator's.
#include "api/arguments.h"
#include "api/cuda.h"
#include "api/export.h"
#include "api/group.h"
#include "api/training.h"
#include "base/error.h"

namespace api = slimccl::api;
using slimccl::check;
using slimccl::collectives::Collective;
using slimccl::runtime::Call;

namespace {

// Who uses which buffer.
bool sends(const Call& call, int rank) {
  return call.op != Collective::kBroadcast || rank == call.root;
}
bool receives(const Call& call, int rank) {
  return call.op != Collective::kReduce || rank == call.root;
}

api::Task task_of(const Call& call, const char* count_name, ncclComm_t handle,
                  cudaStream_t stream) {
  const auto comm = api::find(handle);
  const auto communicator = comm->communicator();
  const int ranks = communicator->ranks(), rank = communicator->rank();
  api::check_count(call.count, count_name, call.type, ranks);
  if (has_root(call.op)) api::check_rank(call.root, "root", ranks);
  const auto check_one = [&](const void* buffer, const char* name) {
    api::check_buffer(buffer, name, call.count);
    if (call.count > 0) api::check_memory(*comm, buffer, name, stream);
  };
  if (sends(call, rank)) check_one(call.input, "sendbuff");
  if (receives(call, rank)) check_one(call.output, "recvbuff");
  return {comm, communicator, communicator->decide(call, api::training().paused()), {}, stream};
}

api::Task reduction_task(Call call, ncclRedOp_t op, const char* count_name, ncclComm_t handle,
                         cudaStream_t stream) {
  const auto comm = api::find(handle);
  call.how = comm->reductions().resolve(op, call.type, comm->communicator()->ranks());
  return task_of(call, count_name, handle, stream);
}

}  // namespace

SLIMCCL_TWIN(AllGather);
SLIMCCL_EXPORT ncclResult_t ncclAllGather(const void* sendbuff, void* recvbuff, size_t sendcount,
                                          ncclDataType_t datatype, ncclComm_t comm,
                                          cudaStream_t stream) {
  return api::group_call("ncclAllGather", [&] {
    return task_of({Collective::kAllGather, datatype, sendcount, sendbuff, recvbuff}, "sendcount",
                   comm, stream);
  });
}

SLIMCCL_TWIN(ReduceScatter);
SLIMCCL_EXPORT ncclResult_t ncclReduceScatter(const void* sendbuff, void* recvbuff,
                                              size_t recvcount, ncclDataType_t datatype,
                                              ncclRedOp_t op, ncclComm_t comm,
                                              cudaStream_t stream) {
  return api::group_call("ncclReduceScatter", [&] {
    return reduction_task({Collective::kReduceScatter, datatype, recvcount, sendbuff, recvbuff}, op,
                          "recvcount", comm, stream);
  });
}

SLIMCCL_TWIN(AllReduce);
SLIMCCL_EXPORT ncclResult_t ncclAllReduce(const void* sendbuff, void* recvbuff, size_t count,
                                          ncclDataType_t datatype, ncclRedOp_t op, ncclComm_t comm,
                                          cudaStream_t stream) {
  return api::group_call("ncclAllReduce", [&] {
    return reduction_task({Collective::kAllReduce, datatype, count, sendbuff, recvbuff}, op,
                          "count", comm, stream);
  });
}

SLIMCCL_TWIN(Reduce);
SLIMCCL_EXPORT ncclResult_t ncclReduce(const void* sendbuff, void* recvbuff, size_t count,
                                       ncclDataType_t datatype, ncclRedOp_t op, int root,
                                       ncclComm_t comm, cudaStream_t stream) {
  return api::group_call("ncclReduce", [&] {
    return reduction_task({Collective::kReduce, datatype, count, sendbuff, recvbuff, root}, op,
                          "count", comm, stream);
  });
}

SLIMCCL_TWIN(Broadcast);
SLIMCCL_EXPORT ncclResult_t ncclBroadcast(const void* sendbuff, void* recvbuff, size_t count,
                                          ncclDataType_t datatype, int root, ncclComm_t comm,
                                          cudaStream_t stream) {
  return api::group_call("ncclBroadcast", [&] {
    return task_of({Collective::kBroadcast, datatype, count, sendbuff, recvbuff, root}, "count",
                   comm, stream);
  });
}

SLIMCCL_TWIN(Bcast);
SLIMCCL_EXPORT ncclResult_t ncclBcast(void* buff, size_t count, ncclDataType_t datatype, int root,
                                      ncclComm_t comm, cudaStream_t stream) {
  return api::group_call("ncclBcast", [&] {
    return task_of({Collective::kBroadcast, datatype, count, buff, buff, root}, "count", comm,
                   stream);
  });
}

SLIMCCL_TWIN(RedOpCreatePreMulSum);
SLIMCCL_EXPORT ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* scalar,
                                                     ncclDataType_t datatype,
                                                     ncclScalarResidence_t residence,
                                                     ncclComm_t comm) {
  return api::guard("ncclRedOpCreatePreMulSum", [&] {
    check(op != nullptr, ncclInvalidArgument, "op is null");
    const auto entry = api::find(comm);
    if (residence == ncclScalarDevice && api::known_cuda() != nullptr) {
      (void)entry->communicator();
      api::check_memory(*entry, scalar, "scalar", nullptr);
    }
    *op = entry->reductions().create(scalar, datatype, residence);
  });
}

SLIMCCL_TWIN(RedOpDestroy);
SLIMCCL_EXPORT ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t comm) {
  return api::guard("ncclRedOpDestroy", [&] { api::find(comm)->reductions().destroy(op); });
}
