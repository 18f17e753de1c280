// The calls that carry data.
#include "core/forward.h"
#include "core/hooks.h"

namespace slimccl::overlay::hooks {

#define SLIMCCL_FORWARD(NAME, CALL, FROM, INTO, ...) \
  forward(real, #NAME, &slimccl_nccl::NAME, comm, CALL, {FROM, INTO, stream}, __VA_ARGS__)

ncclResult_t AllReduce(const slimccl_nccl* real, const void* from, void* into, size_t count,
                       ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return SLIMCCL_FORWARD(AllReduce, (Call{Operation::kAllReduce, count, type, op}), from, into,
                         from, into, count, type, op, comm, stream);
}

ncclResult_t ReduceScatter(const slimccl_nccl* real, const void* from, void* into, size_t count,
                           ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream) {
  return SLIMCCL_FORWARD(ReduceScatter, (Call{Operation::kReduceScatter, count, type, op}), from,
                         into, from, into, count, type, op, comm, stream);
}

ncclResult_t AllGather(const slimccl_nccl* real, const void* from, void* into, size_t count,
                       ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  return SLIMCCL_FORWARD(AllGather, (Call{Operation::kAllGather, count, type}), from, into, from,
                         into, count, type, comm, stream);
}

ncclResult_t Broadcast(const slimccl_nccl* real, const void* from, void* into, size_t count,
                       ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  return SLIMCCL_FORWARD(Broadcast, (Call{Operation::kBroadcast, count, type, ncclSum, root}), from,
                         into, from, into, count, type, root, comm, stream);
}

ncclResult_t Bcast(const slimccl_nccl* real, void* buffer, size_t count, ncclDataType_t type,
                   int root, ncclComm_t comm, cudaStream_t stream) {
  return SLIMCCL_FORWARD(Bcast, (Call{Operation::kBroadcast, count, type, ncclSum, root}), buffer,
                         buffer, buffer, count, type, root, comm, stream);
}

ncclResult_t Reduce(const slimccl_nccl* real, const void* from, void* into, size_t count,
                    ncclDataType_t type, ncclRedOp_t op, int root, ncclComm_t comm,
                    cudaStream_t stream) {
  return SLIMCCL_FORWARD(Reduce, (Call{Operation::kReduce, count, type, op, root}), from, into,
                         from, into, count, type, op, root, comm, stream);
}

ncclResult_t AlltoAll(const slimccl_nccl* real, const void* from, void* into, size_t count,
                      ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  return SLIMCCL_FORWARD(AlltoAll, (Call{Operation::kAlltoAll, count, type}), from, into, from,
                         into, count, type, comm, stream);
}

ncclResult_t Gather(const slimccl_nccl* real, const void* from, void* into, size_t count,
                    ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  return SLIMCCL_FORWARD(Gather, (Call{Operation::kGather, count, type, ncclSum, root}), from, into,
                         from, into, count, type, root, comm, stream);
}

ncclResult_t Scatter(const slimccl_nccl* real, const void* from, void* into, size_t count,
                     ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  return SLIMCCL_FORWARD(Scatter, (Call{Operation::kScatter, count, type, ncclSum, root}), from,
                         into, from, into, count, type, root, comm, stream);
}

ncclResult_t Send(const slimccl_nccl* real, const void* from, size_t count, ncclDataType_t type,
                  int peer, ncclComm_t comm, cudaStream_t stream) {
  return SLIMCCL_FORWARD(Send, (Call{Operation::kSend, count, type}), from, nullptr, from, count,
                         type, peer, comm, stream);
}

ncclResult_t Recv(const slimccl_nccl* real, void* into, size_t count, ncclDataType_t type, int peer,
                  ncclComm_t comm, cudaStream_t stream) {
  return SLIMCCL_FORWARD(Recv, (Call{Operation::kRecv, count, type}), nullptr, into, into, count,
                         type, peer, comm, stream);
}

}  // namespace slimccl::overlay::hooks
