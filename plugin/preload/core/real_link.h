// The messages of compressed calls: ncclSend and ncclRecv of the real NCCL, on the caller's own
// communicator; and ncclAllGather on a communicator of the node, where one was asked for.
#pragma once

#include <atomic>
#include <cstdint>
#include <shared_mutex>

#include "overlay.h"
#include "runtime/stream/stream_team.h"

namespace slimccl::overlay {

// Ends this thread's group in the real NCCL, at its outermost level, without sending anything of
// it.
void drop_group(const slimccl_nccl& nccl) noexcept;

class RealLink final : public runtime::StreamLink {
 public:
  // `issuing` is held shared while messages are handed to the real NCCL, by all links of the
  // process: who ends a communicator waits for it, see close().
  RealLink(const slimccl_nccl& nccl, ncclComm_t comm, std::shared_mutex& issuing)
      : nccl_(nccl), comm_(comm), issuing_(issuing) {}

  void start() override;
  void send(const void* from, uint64_t bytes, int peer, device::CUstream stream) override;
  void recv(void* into, uint64_t bytes, int peer, device::CUstream stream) override;
  void node_gather(const void* from, void* into, uint64_t bytes, device::CUstream stream) override;
  void finish() override;
  void cancel() noexcept override;

  // The communicator ends: from now on no further call of it is made, and none is under way but,
  // maybe, a ncclGroupEnd. Any thread.
  void close() noexcept;

  // Makes the communicator of this rank's node, by the real ncclCommSplit: all ranks do this.
  // Throws Error.
  void join_node(int node, int local);
  [[nodiscard]] bool has_node() const noexcept { return node_ != nullptr; }
  // Ends it, if there is one; no call of it is made any more. Any thread.
  enum class NodeEnd : uint8_t { kDestroyed, kAborted };
  void leave_node(NodeEnd how) noexcept;

 private:
  void need_open() const;
  void need(ncclResult_t result, const char* name) const;

  const slimccl_nccl& nccl_;
  const ncclComm_t comm_;
  std::shared_mutex& issuing_;
  std::atomic<bool> closed_{false};
  std::atomic<ncclComm_t> node_{nullptr};
};

}  // namespace slimccl::overlay
