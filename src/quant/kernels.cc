#include "quant/kernels.h"

#include <cstring>
#include <vector>

#include "base/error.h"
#include "quant/q4s.h"
#include "quant/q8.h"
#include "quant/rows.h"
#include "quant/standard_arithmetic.h"

namespace slimccl::quant {

namespace {

// Messages are functions of their elements to the last byte.
template <class Format>
void clear_padding(std::byte* message, uint64_t elems) {
  const uint64_t factors = Format::factor_bytes(elems), head = Format::head_bytes(elems);
  const uint64_t used =
      head + elems / kSuperblock * Format::kRecordBytes + Format::record_bytes(elems % kSuperblock);
  std::memset(message + factors, 0, head - factors);
  std::memset(message + used, 0, (kMessageAlign - used % kMessageAlign) % kMessageAlign);
}

bool is_copy(std::span<const Source> sources, Form to, ncclDataType_t type) {
  return sources.size() == 1 && sources[0].scale == 1.0f && is_plain(to) &&
         form_of(sources[0].codec, type) == to;
}

void fold_with(RowFold* row, std::span<const Source> sources, const Sink& sink, ncclDataType_t type,
               uint64_t elems) {
  ensure(!sources.empty(), "fold without sources");
  ensure(is_float(type), "fold of ", type_name(type), " elements");
  if (elems == 0) return;
  const Form to = form_of(sink.codec, type);
  ensure(is_plain(to) || reinterpret_cast<uintptr_t>(sink.data) % kMessageAlign == 0,
         "fold into a message that is not aligned to ", kMessageAlign, " bytes");
  if (is_copy(sources, to, type)) {
    if (sink.data != sources[0].data) {
      std::memcpy(sink.data, sources[0].data, elems * plain_bytes(to));
    }
    return;
  }
  const StandardArithmetic standard;
  row(sources.data(), sources.size(), sink, type, elems);
  if (to == Form::kQ8) clear_padding<Q8>(sink.data, elems);
  if (to == Form::kQ4s) clear_padding<Q4s>(sink.data, elems);
}

std::vector<Kernels> usable_rows() {
  std::vector<Kernels> rows = {{"scalar", scalar_fold}};
  for (const Kernels& row : vector_rows()) rows.push_back(row);
  return rows;
}

}  // namespace

std::span<const Kernels> all_kernels() {
  // Never destroyed: at process exit the progress thread may still compute.
  static const auto* const rows = new std::vector<Kernels>(usable_rows());
  return *rows;
}

void Kernels::fold(std::span<const Source> sources, const Sink& sink, ncclDataType_t type,
                   uint64_t elems) const {
  fold_with(row, sources, sink, type, elems);
}

const Kernels& best_kernels() { return all_kernels().back(); }

}  // namespace slimccl::quant
