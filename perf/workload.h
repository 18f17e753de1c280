// What a perf run calls and on which data: the three collectives, and inputs that every rank can
// compute for every other, so that no rank needs to be sent the answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "slimccl/nccl.h"

namespace slimccl::perf {

enum class Collective : uint8_t { kAllGather, kReduceScatter, kAllReduce };
enum class Reduction : uint8_t { kNone, kSum, kAvg, kMulSum };

[[nodiscard]] const char* name(Collective collective);  // "all_gather", ...
[[nodiscard]] const char* name(Reduction reduction);    // "none", "sum", "avg", "mulsum"

// One line of the table. `count` as in the call: per rank for all-gather and reduce-scatter.
struct Case {
  Collective collective;
  ncclDataType_t type;
  Reduction reduction;
  uint64_t count;
  int ranks;

  [[nodiscard]] uint64_t send_elems() const;
  [[nodiscard]] uint64_t recv_elems() const;
  [[nodiscard]] uint64_t size_bytes() const;  // of the larger side, as nccl-tests counts
  [[nodiscard]] double bus_factor() const;
};

// nccl-tests' rounding: `bytes` of the larger side to a count whose pieces are multiples of 16.
[[nodiscard]] uint64_t count_for(Collective collective, uint64_t bytes, ncclDataType_t type,
                                 int ranks);

// Integers: sums are exact in every order. Natural: bell-shaped, scales differing between places,
// as codecs expect them. All are numbers of the tensor's type.
class Inputs {
 public:
  enum class Kind : uint8_t { kIntegers, kNatural };
  Inputs(Kind kind, ncclDataType_t type, Reduction reduction, int ranks);

  [[nodiscard]] float value(int rank, uint64_t index) const;
  // What the operation multiplies rank's input by before the sum.
  [[nodiscard]] double scale(int rank) const;
  [[nodiscard]] Kind kind() const { return kind_; }
  // values[i] := scale * value(rank, first + i)
  void scaled(int rank, uint64_t first, std::span<double> values) const;
  void fill(void* tensor, int rank, uint64_t elems) const;

 private:
  Kind kind_;
  ncclDataType_t type_;
  Reduction reduction_;
  int ranks_;
  std::vector<float> table_;
};

// Makes the call. `scalars` is set up by PreMulSum users; see Operation.
class Operation {
 public:
  Operation(Reduction reduction, ncclDataType_t type, float scalar, ncclComm_t comm);
  ~Operation();
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  [[nodiscard]] ncclRedOp_t get() const { return op_; }

 private:
  ncclRedOp_t op_ = ncclSum;
  ncclComm_t comm_ = nullptr;  // set when op_ is ours to destroy
};

// Throws std::runtime_error with the library's last error, naming `what`, unless `result` is good.
void require(ncclResult_t result, const char* what);
void call(const Case& test, const void* send, void* recv, ncclRedOp_t op, ncclComm_t comm);

}  // namespace slimccl::perf
