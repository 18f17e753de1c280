// The collectives that a perf run knows, one row each. A further one is a further row: everything
// else (sizes, checks, in-place form, table, command line) is derived from these fields.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "slimccl/nccl.h"

namespace slimccl::perf {

struct Collective;

enum class Reduction : uint8_t { kNone, kSum, kProd, kMax, kMin, kAvg, kMulSum };
[[nodiscard]] const char* name(Reduction reduction);  // "none", "sum", "prod", ...

// One line of the table. `count` as in the call: of one slot.
struct Case {
  const Collective* collective;
  ncclDataType_t type;
  Reduction reduction;
  int root;  // -1: the collective has none
  uint64_t count;
  int ranks;

  // Of this rank's buffers; 0: it has no use for the buffer, and passes null.
  [[nodiscard]] uint64_t send_slots(int rank) const;
  [[nodiscard]] uint64_t recv_slots(int rank) const;
  [[nodiscard]] uint64_t send_elems(int rank) const { return send_slots(rank) * count; }
  [[nodiscard]] uint64_t recv_elems(int rank) const { return recv_slots(rank) * count; }
  [[nodiscard]] uint64_t size_bytes() const;  // of the larger side, as nccl-tests counts
  [[nodiscard]] double bus_factor() const;
};

// A buffer: how many slots of `count` elements, and who has it.
enum class Side : uint8_t { kOne, kAll, kOneAtRoot, kAllAtRoot };
// kSendInRecv: send == recv + rank * count. kRecvInSend: the other way. Ranks that lack one of the
// two buffers use the other alone.
enum class InPlace : uint8_t { kNone, kSame, kSendInRecv, kRecvInSend };
// Outputs that must hold equal bits on all ranks. kForeignSlots: in slot i all but rank i's.
enum class Replicas : uint8_t { kNone, kWhole, kForeignSlots };

// Where a slot of a result comes from: slot `slot` of the send buffer of `rank`, or of all of them.
struct Origin {
  static constexpr int kReduced = -1;
  int rank, slot;
};

struct Arguments {
  const Case& test;
  const void* send;
  void* recv;
  ncclRedOp_t op;
  int rank;
  ncclComm_t comm;
  cudaStream_t stream;
};

struct Collective {
  const char* name;
  bool has_root, reduces;
  Side send, recv;
  InPlace in_place;
  Replicas replicas;
  double (*bus_factor)(double ranks);
  Origin (*origin)(const Case&, int rank, int slot);
  ncclResult_t (*call)(const Arguments&);

  // nccl-tests' rounding: `bytes` of the larger side to a count whose slots are multiples of 16.
  [[nodiscard]] uint64_t count_for(uint64_t bytes, ncclDataType_t type, int ranks) const;
};

[[nodiscard]] std::span<const Collective> collectives();
// Null: there is none of this name.
[[nodiscard]] const Collective* find_collective(std::string_view name);

}  // namespace slimccl::perf
