#include "workload.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "elements.h"

namespace slimccl::perf {
namespace {

uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

constexpr size_t kTable = 65536;

}  // namespace

const char* name(Collective collective) {
  switch (collective) {
    case Collective::kAllGather:
      return "all_gather";
    case Collective::kReduceScatter:
      return "reduce_scatter";
    case Collective::kAllReduce:
      return "all_reduce";
  }
  return "?";
}

const char* name(Reduction reduction) {
  switch (reduction) {
    case Reduction::kNone:
      return "none";
    case Reduction::kSum:
      return "sum";
    case Reduction::kAvg:
      return "avg";
    case Reduction::kMulSum:
      return "mulsum";
  }
  return "?";
}

uint64_t Case::send_elems() const {
  return collective == Collective::kReduceScatter ? count * static_cast<uint64_t>(ranks) : count;
}

uint64_t Case::recv_elems() const {
  return collective == Collective::kAllGather ? count * static_cast<uint64_t>(ranks) : count;
}

uint64_t Case::size_bytes() const {
  return std::max(send_elems(), recv_elems()) * element_bytes(type);
}

double Case::bus_factor() const {
  const double share = static_cast<double>(ranks - 1) / ranks;
  return collective == Collective::kAllReduce ? 2 * share : share;
}

uint64_t count_for(Collective collective, uint64_t bytes, ncclDataType_t type, int ranks) {
  const uint64_t elems = bytes / element_bytes(type);
  if (collective == Collective::kAllReduce) return elems;
  const uint64_t multiple = 16 / element_bytes(type);
  return elems / static_cast<uint64_t>(ranks) / multiple * multiple;
}

Inputs::Inputs(Kind kind, ncclDataType_t type, Reduction reduction, int ranks)
    : kind_(kind), type_(type), reduction_(reduction), ranks_(ranks), table_(kTable) {
  // bf16 holds integers up to 256 exactly; mulsum doubles some.
  const int most = std::clamp(128 / ranks, 1, 8);
  for (size_t i = 0; i < kTable; ++i) {
    const uint64_t bits = mix(i);
    if (kind == Kind::kIntegers) {
      table_[i] = static_cast<float>(static_cast<int>(bits % (2u * most + 1)) - most);
      continue;
    }
    double sum = 0;  // of four uniform numbers: near enough to a normal distribution
    for (int part = 0; part < 4; ++part) sum += static_cast<double>(bits >> (16 * part) & 0xffff);
    table_[i] = static_cast<float>(nearest((sum / 65535 - 2) * std::sqrt(3.0), type));
  }
}

float Inputs::value(int rank, uint64_t index) const {
  const uint64_t bits = mix(index * 1024 + static_cast<uint64_t>(rank));
  const float number = table_[bits % kTable];
  if (kind_ == Kind::kIntegers) return number;
  constexpr float kScales[] = {1.0f, 0.25f, 2.0f, 0.5f};  // powers of two keep it in the type
  return number * kScales[index / 640 % 4];
}

double Inputs::scale(int rank) const {
  if (reduction_ == Reduction::kAvg) return 1.0 / ranks_;
  return reduction_ == Reduction::kMulSum && rank % 2 == 1 ? 2.0 : 1.0;
}

void Inputs::scaled(int rank, uint64_t first, std::span<double> values) const {
  const double factor = scale(rank);
  for (size_t i = 0; i < values.size(); ++i) values[i] = factor * value(rank, first + i);
}

void Inputs::fill(void* tensor, int rank, uint64_t elems) const {
  for (uint64_t i = 0; i < elems; ++i) store(tensor, i, value(rank, i), type_);
}

Operation::Operation(Reduction reduction, ncclDataType_t type, float scalar, ncclComm_t comm) {
  if (reduction == Reduction::kAvg) op_ = ncclAvg;
  if (reduction != Reduction::kMulSum) return;
  uint32_t bytes = 0;
  store(&bytes, 0, scalar, type);
  require(ncclRedOpCreatePreMulSum(&op_, &bytes, type, ncclScalarHostImmediate, comm),
          "ncclRedOpCreatePreMulSum");
  comm_ = comm;
}

Operation::~Operation() {
  if (comm_ != nullptr) (void)ncclRedOpDestroy(op_, comm_);
}

void require(ncclResult_t result, const char* what) {
  if (result == ncclSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + ncclGetErrorString(result) + ": " +
                           ncclGetLastError(nullptr));
}

void call(const Case& test, const void* send, void* recv, ncclRedOp_t op, ncclComm_t comm) {
  switch (test.collective) {
    case Collective::kAllGather:
      return require(ncclAllGather(send, recv, test.count, test.type, comm, nullptr),
                     "ncclAllGather");
    case Collective::kReduceScatter:
      return require(ncclReduceScatter(send, recv, test.count, test.type, op, comm, nullptr),
                     "ncclReduceScatter");
    case Collective::kAllReduce:
      return require(ncclAllReduce(send, recv, test.count, test.type, op, comm, nullptr),
                     "ncclAllReduce");
  }
}

}  // namespace slimccl::perf
