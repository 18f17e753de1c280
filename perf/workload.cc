#include "workload.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "elements.h"

// What makes exact inputs exact. Sums: small integers, times a unit that fills the type's bits, of
// as few ranks as the type can add up without rounding; who they are changes with the index. Avg of
// floats multiplies by 1/ranks first: unless that is a power of two, one rank speaks alone. Avg of
// integers: most ranks say the same, or averages would be all but zero. Prod: one odd factor, up to
// four of 0.5, 1, 2 and -1. Max and min never round: any finite numbers.
namespace slimccl::perf {
namespace {

uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t hash_of(int rank, uint64_t index) {
  return mix(index * 1024 + static_cast<uint64_t>(rank));
}

bool is_power_of_two(int number) { return (number & (number - 1)) == 0; }

constexpr size_t kNaturalTable = 65536, kExactTable = 4096;  // powers of two

}  // namespace

Inputs::Inputs(Kind kind, ncclDataType_t type, Reduction reduction, int ranks)
    : kind_(kind),
      type_(type),
      reduction_(reduction),
      ranks_(ranks),
      speakers_(ranks),
      most_(1),
      unit_(1),
      table_(kind == Kind::kExact ? kExactTable : kNaturalTable) {
  // The check computes in fp64. Half of the bits are for the unit, in types that have many.
  const int digits = std::min(element(type).digits, 53);
  if (digits >= 20) unit_ = std::ldexp(1, digits / 2) + 1;
  // Half of what fits, for mulsum doubles.
  const double sum = std::ldexp(1, digits >= 20 ? digits / 2 - 2 : digits - 1) - 1;
  if (reduction == Reduction::kProd) {
    speakers_ = std::min(ranks, 4);
  } else if (reduction != Reduction::kMax && reduction != Reduction::kMin) {
    speakers_ = std::min(ranks, static_cast<int>(std::min(sum, 1e6)));
    const bool rounds = element(type).is_float && !is_power_of_two(ranks);
    if (reduction == Reduction::kAvg && rounds) speakers_ = 1;
    most_ = std::clamp(std::floor(sum / speakers_), 1.0, 8.0);
  }
  fill_table();
}

void Inputs::fill_table() {
  for (size_t i = 0; i < table_.size(); ++i) {
    const uint64_t bits = mix(i);
    if (kind_ == Kind::kNatural) {
      table_[i] = natural(bits);
    } else if (reduction_ == Reduction::kProd) {
      table_[i] = factor(bits);
    } else if (reduction_ == Reduction::kMax || reduction_ == Reduction::kMin) {
      table_[i] = anything(bits);
    } else {
      table_[i] = summand(bits);
    }
  }
}

double Inputs::summand(uint64_t bits) const {
  const auto most = static_cast<uint64_t>(most_);
  if (!element(type_).is_signed) return static_cast<double>(bits % (most + 1)) * unit_;
  return (static_cast<double>(bits % (2 * most + 1)) - most_) * unit_;
}

double Inputs::factor(uint64_t bits) const {
  const ElementType& of = element(type_);
  const double factors[] = {1, 2, of.is_float ? 0.5 : 1, of.is_signed ? -1.0 : 2.0};
  return factors[bits % 4];
}

double Inputs::anything(uint64_t bits) const {
  const ElementType& of = element(type_);
  // 53 bits of a number, its sign and its exponent; whole ones for integers, of the whole range.
  const auto number = static_cast<double>(bits >> 11);
  const bool negative = (bits & 16) != 0 && of.is_signed;
  if (!of.is_float) {
    const double size = std::ldexp(number, of.digits - 53);
    return std::floor(negative ? -size : size);
  }
  const double size = std::ldexp(number, static_cast<int>(bits % 12) - 58);
  return nearest(negative ? -size : size, type_) + 0.0;  // no -0
}

double Inputs::natural(uint64_t bits) const {
  double sum = 0;  // of four uniform numbers: near enough to a normal distribution
  for (int part = 0; part < 4; ++part) sum += static_cast<double>(bits >> (16 * part) & 0xffff);
  return nearest((sum / 65535 - 2) * std::sqrt(3.0), type_);
}

double Inputs::value(int rank, uint64_t index) const {
  const uint64_t hash = hash_of(rank, index), mask = table_.size() - 1;
  const double number = table_[hash & mask];
  if (kind_ == Kind::kNatural) {
    constexpr double kScales[] = {1.0, 0.25, 2.0, 0.5};  // powers of two keep it in the type
    return number * kScales[index / 640 % 4];
  }
  const bool is_product = reduction_ == Reduction::kProd;
  if (reduction_ == Reduction::kAvg && !element(type_).is_float && hash >> 62 != 0) {
    return table_[hash_of(0, index) & mask];
  }
  if (speakers_ == ranks_ && !is_product) return number;
  const auto ranks = static_cast<uint64_t>(ranks_);
  const auto turn = static_cast<int>((index + static_cast<uint64_t>(rank)) % ranks);
  if (turn >= speakers_) return is_product ? 1 : 0;
  constexpr double kOdd[] = {3, 5, 7, 3};
  return is_product && turn == 0 ? number * kOdd[hash >> 62] * unit_ : number;
}

double Inputs::scale(int rank) const {
  if (reduction_ == Reduction::kAvg) return 1.0 / ranks_;
  return reduction_ == Reduction::kMulSum && rank % 2 == 1 ? 2.0 : 1.0;
}

double Inputs::averaged(double sum) const {
  if (!element(type_).is_float) return std::trunc(sum / ranks_);
  if (type_ == ncclFloat64) return sum * (1.0 / ranks_);
  return nearest(static_cast<float>(sum) * (1.0f / static_cast<float>(ranks_)), type_);
}

double Inputs::reduced(uint64_t index) const {
  double result = value(0, index);
  for (int rank = 1; rank < ranks_; ++rank) {
    const double other = value(rank, index);
    switch (reduction_) {
      case Reduction::kProd:
        result *= other;
        break;
      case Reduction::kMax:
        result = std::max(result, other);
        break;
      case Reduction::kMin:
        result = std::min(result, other);
        break;
      case Reduction::kMulSum:
        result += scale(rank) * other;
        break;
      case Reduction::kNone:
      case Reduction::kSum:
      case Reduction::kAvg:
        result += other;
    }
  }
  return reduction_ == Reduction::kAvg ? averaged(result) : result;
}

void Inputs::scaled(int rank, uint64_t first, std::span<double> values) const {
  const double factor = scale(rank);
  for (size_t i = 0; i < values.size(); ++i) values[i] = factor * value(rank, first + i);
}

void Inputs::fill(void* tensor, int rank, uint64_t first, uint64_t elems) const {
  const size_t bytes = element_bytes(type_);
  const bool any_bits = kind_ == Kind::kExact && reduction_ == Reduction::kNone;
  for (uint64_t i = 0; i < elems; ++i) {
    if (any_bits) {
      const uint64_t bits = hash_of(rank, first + i);
      std::memcpy(static_cast<char*>(tensor) + i * bytes, &bits, bytes);
    } else {
      store(tensor, i, value(rank, first + i), type_);
    }
  }
}

Operation::Operation(Reduction reduction, ncclDataType_t type, double scale, ncclComm_t comm) {
  constexpr ncclRedOp_t kOperations[] = {ncclSum, ncclSum, ncclProd, ncclMax,
                                         ncclMin, ncclAvg, ncclSum};
  op_ = kOperations[static_cast<size_t>(reduction)];
  if (reduction != Reduction::kMulSum) return;
  uint64_t bytes = 0;
  store(&bytes, 0, scale, type);
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

}  // namespace slimccl::perf
