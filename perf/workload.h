// On which data a perf run calls: inputs that every rank can compute for every other, so that no
// rank needs to be sent the answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectives.h"
#include "slimccl/nccl.h"

namespace slimccl::perf {

// Exact: every order of evaluation gives the same bits, whatever the reduction and the type (see
// workload.cc); without a reduction any bits. Natural: bell-shaped floats, scales differing between
// places, as codecs expect them. All are numbers of the tensor's type.
class Inputs {
 public:
  enum class Kind : uint8_t { kExact, kNatural };
  Inputs(Kind kind, ncclDataType_t type, Reduction reduction, int ranks);

  [[nodiscard]] Kind kind() const { return kind_; }
  // tensor[i] := element first + i of rank's send buffer
  void fill(void* tensor, int rank, uint64_t first, uint64_t elems) const;
  // Exact ones only: the reduction of element `index` of all ranks, a number of the type.
  [[nodiscard]] double reduced(uint64_t index) const;

  [[nodiscard]] double value(int rank, uint64_t index) const;
  // What a floating-point sum multiplies rank's input by first.
  [[nodiscard]] double scale(int rank) const;
  // values[i] := scale * value(rank, first + i)
  void scaled(int rank, uint64_t first, std::span<double> values) const;

 private:
  void fill_table();
  [[nodiscard]] double summand(uint64_t bits) const;
  [[nodiscard]] double factor(uint64_t bits) const;
  [[nodiscard]] double anything(uint64_t bits) const;
  [[nodiscard]] double natural(uint64_t bits) const;
  [[nodiscard]] double averaged(double sum) const;

  Kind kind_;
  ncclDataType_t type_;
  Reduction reduction_;
  int ranks_;
  int speakers_;        // ranks whose inputs are not neutral, per index
  double most_, unit_;  // summands are multiples of unit_, up to most_ * unit_
  std::vector<double> table_;
};

// The reduction as the library knows it.
class Operation {
 public:
  // `scale`: a PreMulSum's scalar; of no use to others.
  Operation(Reduction reduction, ncclDataType_t type, double scale, ncclComm_t comm);
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

}  // namespace slimccl::perf
