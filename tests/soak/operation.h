// One random call, the same on all ranks, and one rank's part of it: buffers, what they must hold
// afterwards, and how to make the call.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "slimccl/nccl.h"
#include "soak/buffer.h"
#include "soak/random.h"

namespace soak {

enum class Kind {
  kAllGather,
  kReduceScatter,
  kAllReduce,
  kReduce,
  kBroadcast,
  kBcast,
  kAlltoAll,
  kGather,
  kScatter,
  kMessages
};

struct Message {
  int from, to;
  size_t count;
};

struct Spec {
  uint64_t seed;
  Kind kind;
  ncclDataType_t type;
  size_t count;
  int root;
  int op;  // of reductions; kPreMulSum too
  bool device_scalar;
  std::vector<Message> messages;

  [[nodiscard]] std::string text() const;
  // Point-to-point calls that need a group around them.
  [[nodiscard]] bool needs_group() const;
};

// For a communicator of `members` ranks.
Spec random_spec(Random& random, int members);

// One rank's part. Buffers must stay until the call is done.
class Part {
 public:
  Part(const Spec& spec, int me, int members);

  // Makes the call, or calls; not ncclGroupStart and End. The first result that is an error.
  ncclResult_t call(ncclComm_t comm, cudaStream_t stream);
  // Empty, or what is wrong.
  [[nodiscard]] std::string difference() const;

 private:
  struct Place {
    std::byte *data, *expected;
  };

  Buffer& add(size_t slices);
  [[nodiscard]] Place slice(Buffer& buffer, int slot) const;
  // Slice `slot` of what `member` puts in.
  void produce(std::byte* into, int member, int slot) const;
  void put(Buffer& buffer, int at, int member, int slot);
  void expect(Buffer& buffer, int at, int member, int slot);
  void expect_reduced(Buffer& buffer, int at, int slot);

  void prepare();
  void prepare_all_gather();
  void prepare_reduce_scatter();
  void prepare_all_reduce();
  void prepare_broadcast();
  void prepare_all_to_all();
  void prepare_gather();
  void prepare_scatter();
  void prepare_messages();
  [[nodiscard]] ncclResult_t call_reduction(ncclComm_t comm, cudaStream_t stream);
  [[nodiscard]] ncclResult_t call_messages(ncclComm_t comm, cudaStream_t stream);

  Spec spec_;
  int me_, members_;
  size_t element_bytes_, slice_bytes_;
  Random own_;  // choices of this rank alone
  bool in_place_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<std::byte*> message_data_;
  std::byte *send_ = nullptr, *recv_ = nullptr;
  std::byte scalar_[8];
};

}  // namespace soak
