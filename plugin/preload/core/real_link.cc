#include "core/real_link.h"

#include <mutex>

#include "base/error.h"

namespace slimccl::overlay {

void drop_group(const slimccl_nccl& nccl) noexcept {
  // A simulation that succeeds leaves messages queued, for the next group to send. One that is
  // refused drops them: so it gets what NCCL takes for no ncclSimInfo_t.
  ncclSimInfo_t info = NCCL_SIM_INFO_INITIALIZER;
  info.magic = 0;
  (void)(nccl.GroupSimulateEnd != nullptr ? nccl.GroupSimulateEnd(&info) : nccl.GroupEnd());
}

void RealLink::need_open() const {
  check(!closed_, ncclInvalidUsage, "this communicator was ended by another thread during a call");
}

void RealLink::need(ncclResult_t result, const char* name) const {
  if (result == ncclSuccess) return;
  const char* why = nccl_.GetLastError != nullptr ? nccl_.GetLastError(comm_) : nullptr;
  throw Error(result, concat("the real NCCL failed in ", name, ", as part of a compressed call: ",
                             why != nullptr && *why != '\0' ? why : nccl_.GetErrorString(result)));
}

void RealLink::start() {
  std::shared_lock lock(issuing_);
  need_open();
  need(nccl_.GroupStart(), "ncclGroupStart");
  lock.release();  // until finish() or cancel()
}

void RealLink::send(const void* from, uint64_t bytes, int peer, device::CUstream stream) {
  need_open();
  need(nccl_.Send(from, bytes, ncclUint8, peer, comm_, reinterpret_cast<cudaStream_t>(stream)),
       "ncclSend");
}

void RealLink::recv(void* into, uint64_t bytes, int peer, device::CUstream stream) {
  need_open();
  need(nccl_.Recv(into, bytes, ncclUint8, peer, comm_, reinterpret_cast<cudaStream_t>(stream)),
       "ncclRecv");
}

void RealLink::node_gather(const void* from, void* into, uint64_t bytes, device::CUstream stream) {
  need_open();
  ensure(node_ != nullptr, "a gather in a node that has no communicator");
  need(nccl_.AllGather(from, into, bytes, ncclUint8, node_, reinterpret_cast<cudaStream_t>(stream)),
       "ncclAllGather");
}

void RealLink::finish() {
  // The end may wait for other ranks, and whoever aborts the communicator must not wait for that.
  issuing_.unlock_shared();
  need(nccl_.GroupEnd(), "ncclGroupEnd");
}

void RealLink::cancel() noexcept {
  drop_group(nccl_);  // an end would send it, maybe on a communicator that is being freed
  issuing_.unlock_shared();
}

void RealLink::close() noexcept {
  closed_ = true;
  const std::lock_guard nobody_issues(issuing_);
}

void RealLink::join_node(int node, int local) {
  check(nccl_.CommSplit != nullptr, ncclInvalidUsage, "this NCCL has no ncclCommSplit");
  ncclComm_t made = nullptr;
  const ncclResult_t result = nccl_.CommSplit(comm_, node, local, &made, nullptr);
  node_ = made;
  if (result == ncclSuccess && made != nullptr) return;
  leave_node(NodeEnd::kAborted);
  need(result, "ncclCommSplit");
  throw Error(ncclInternalError, "ncclCommSplit made no communicator");
}

void RealLink::leave_node(NodeEnd how) noexcept {
  const ncclComm_t node = node_.exchange(nullptr);
  if (node == nullptr) return;
  (void)(how == NodeEnd::kAborted ? nccl_.CommAbort(node) : nccl_.CommDestroy(node));
}

}  // namespace slimccl::overlay
