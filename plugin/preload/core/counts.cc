#include "core/counts.h"

namespace slimccl::overlay {
namespace {

// Every number of `counts`, in one fixed order.
template <class CountsType, class Visitor>
void for_each_number(CountsType& counts, Visitor&& visit) {
  for (size_t op = 0; op < kOperations; ++op) {
    for (size_t reason = 0; reason < kReasons; ++reason) visit(counts.calls[op][reason]);
    visit(counts.elems[op]);
    visit(counts.bytes[op]);
    visit(counts.compressed_elems[op]);
    visit(counts.exact_bytes[op]);
    visit(counts.compressed_bytes[op]);
  }
}

constexpr size_t kNumbers = kOperations * (kReasons + 5);

}  // namespace

uint64_t Counts::sum(const std::array<Number, kOperations>& numbers) noexcept {
  uint64_t sum = 0;
  for (const Number& number : numbers) sum += read(number);
  return sum;
}

void Counts::operator+=(const Counts& other) noexcept {
  std::array<uint64_t, kNumbers> theirs;
  size_t at = 0;
  for_each_number(other, [&](const Number& number) { theirs[at++] = read(number); });
  at = 0;
  for_each_number(*this, [&](Number& number) { add(number, theirs[at++]); });
}

void Counts::clear() noexcept {
  for_each_number(*this, [](Number& number) { number.store(0, std::memory_order_relaxed); });
}

uint64_t Counts::calls_of(Operation op) const noexcept {
  uint64_t sum = 0;
  for (const Number& number : calls[static_cast<size_t>(op)]) sum += read(number);
  return sum;
}

uint64_t Counts::calls_because(Reason reason) const noexcept {
  uint64_t sum = 0;
  for (const auto& by_reason : calls) sum += read(by_reason[static_cast<size_t>(reason)]);
  return sum;
}

uint64_t Counts::all_calls() const noexcept {
  uint64_t sum = 0;
  for (size_t op = 0; op < kOperations; ++op) sum += calls_of(static_cast<Operation>(op));
  return sum;
}

}  // namespace slimccl::overlay
