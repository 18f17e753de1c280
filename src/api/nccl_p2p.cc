// Point-to-point calls, and the collectives that are groups of them.
#include <cstddef>
#include <vector>

#include "api/arguments.h"
#include "api/export.h"
#include "api/group.h"
#include "base/error.h"

namespace api = slimccl::api;
using slimccl::check;
using slimccl::runtime::Transfer;

namespace {

// One call being turned into messages.
class Messages {
 public:
  Messages(size_t count, ncclDataType_t type, ncclComm_t handle, cudaStream_t stream)
      : task_{api::find(handle), nullptr, std::nullopt, {}, stream}, count_(count), type_(type) {
    task_.communicator = task_.comm->communicator();
    bytes_ = count * api::check_count(count, "count", type, ranks());
  }

  void send(int peer, const void* from, size_t slot = 0) {
    add(Transfer::Kind::kSend, peer, static_cast<const std::byte*>(from) + slot * bytes_, nullptr);
  }
  void recv(int peer, void* into, size_t slot = 0) {
    add(Transfer::Kind::kRecv, peer, nullptr, static_cast<std::byte*>(into) + slot * bytes_);
  }
  void check_buffer(const void* buffer, const char* name) const {
    api::check_buffer(buffer, name, count_);
    if (count_ > 0) api::check_memory(*task_.comm, buffer, name, task_.stream);
  }
  // `slots` of the first and of the second buffer share no byte.
  void check_apart(const void* sendbuff, size_t send_slots, const void* recvbuff,
                   size_t recv_slots) const {
    const auto first = reinterpret_cast<uintptr_t>(sendbuff);
    const auto second = reinterpret_cast<uintptr_t>(recvbuff);
    check(first + send_slots * bytes_ <= second || second + recv_slots * bytes_ <= first ||
              bytes_ == 0,
          ncclInvalidArgument, "sendbuff and recvbuff overlap");
  }
  [[nodiscard]] const std::byte* slot(const void* buffer, int rank) const {
    return static_cast<const std::byte*>(buffer) + static_cast<size_t>(rank) * bytes_;
  }

  [[nodiscard]] int rank() const { return task_.communicator->rank(); }
  [[nodiscard]] int ranks() const { return task_.communicator->ranks(); }
  [[nodiscard]] api::Task take() { return std::move(task_); }

 private:
  void add(Transfer::Kind kind, int peer, const std::byte* from, std::byte* into) {
    task_.transfers.push_back({kind, peer, from, into, bytes_, type_});
  }

  api::Task task_;
  size_t count_, bytes_ = 0;
  ncclDataType_t type_;
};

}  // namespace

SLIMCCL_TWIN(Send);
SLIMCCL_EXPORT ncclResult_t ncclSend(const void* sendbuff, size_t count, ncclDataType_t datatype,
                                     int peer, ncclComm_t comm, cudaStream_t stream) {
  return api::group_call("ncclSend", [&] {
    Messages messages(count, datatype, comm, stream);
    api::check_rank(peer, "peer", messages.ranks());
    messages.check_buffer(sendbuff, "sendbuff");
    messages.send(peer, sendbuff);
    return messages.take();
  });
}

SLIMCCL_TWIN(Recv);
SLIMCCL_EXPORT ncclResult_t ncclRecv(void* recvbuff, size_t count, ncclDataType_t datatype,
                                     int peer, ncclComm_t comm, cudaStream_t stream) {
  return api::group_call("ncclRecv", [&] {
    Messages messages(count, datatype, comm, stream);
    api::check_rank(peer, "peer", messages.ranks());
    messages.check_buffer(recvbuff, "recvbuff");
    messages.recv(peer, recvbuff);
    return messages.take();
  });
}

SLIMCCL_TWIN(AlltoAll);
SLIMCCL_EXPORT ncclResult_t ncclAlltoAll(const void* sendbuff, void* recvbuff, size_t count,
                                         ncclDataType_t datatype, ncclComm_t comm,
                                         cudaStream_t stream) {
  return api::group_call("ncclAlltoAll", [&] {
    Messages messages(count, datatype, comm, stream);
    const auto slots = static_cast<size_t>(messages.ranks());
    messages.check_buffer(sendbuff, "sendbuff");
    messages.check_buffer(recvbuff, "recvbuff");
    messages.check_apart(sendbuff, slots, recvbuff, slots);
    if (count == 0) return messages.take();
    for (int peer = 0; peer < messages.ranks(); ++peer) {
      messages.send(peer, sendbuff, static_cast<size_t>(peer));
      messages.recv(peer, recvbuff, static_cast<size_t>(peer));
    }
    return messages.take();
  });
}

SLIMCCL_TWIN(Gather);
SLIMCCL_EXPORT ncclResult_t ncclGather(const void* sendbuff, void* recvbuff, size_t count,
                                       ncclDataType_t datatype, int root, ncclComm_t comm,
                                       cudaStream_t stream) {
  return api::group_call("ncclGather", [&] {
    Messages messages(count, datatype, comm, stream);
    api::check_rank(root, "root", messages.ranks());
    messages.check_buffer(sendbuff, "sendbuff");
    const bool collects = messages.rank() == root;
    if (collects) {
      messages.check_buffer(recvbuff, "recvbuff");
      const auto slots = static_cast<size_t>(messages.ranks());
      if (sendbuff != messages.slot(recvbuff, root))
        messages.check_apart(sendbuff, 1, recvbuff, slots);
    }
    if (count == 0) return messages.take();
    messages.send(root, sendbuff);
    for (int peer = 0; peer < messages.ranks() && collects; ++peer)
      messages.recv(peer, recvbuff, static_cast<size_t>(peer));
    return messages.take();
  });
}

SLIMCCL_TWIN(Scatter);
SLIMCCL_EXPORT ncclResult_t ncclScatter(const void* sendbuff, void* recvbuff, size_t count,
                                        ncclDataType_t datatype, int root, ncclComm_t comm,
                                        cudaStream_t stream) {
  return api::group_call("ncclScatter", [&] {
    Messages messages(count, datatype, comm, stream);
    api::check_rank(root, "root", messages.ranks());
    messages.check_buffer(recvbuff, "recvbuff");
    const bool deals = messages.rank() == root;
    if (deals) {
      messages.check_buffer(sendbuff, "sendbuff");
      const auto slots = static_cast<size_t>(messages.ranks());
      if (recvbuff != messages.slot(sendbuff, root))
        messages.check_apart(sendbuff, slots, recvbuff, 1);
    }
    if (count == 0) return messages.take();
    for (int peer = 0; peer < messages.ranks() && deals; ++peer)
      messages.send(peer, sendbuff, static_cast<size_t>(peer));
    messages.recv(root, recvbuff);
    return messages.take();
  });
}
