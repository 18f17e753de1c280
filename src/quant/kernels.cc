#include "quant/kernels.h"

#include <vector>

#include "base/error.h"
#include "quant/kernels_row.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace slimccl::quant {

#if defined(__x86_64__)
namespace avx2 {
RowFold fold_row;
}
namespace avx512 {
RowFold fold_row;
}
#endif

namespace {

// IEEE arithmetic whatever the calling thread was set to (threads inherit a framework's
// flush-to-zero): else tiny blocks would differ between ranks.
class StandardArithmetic {
 public:
#if defined(__x86_64__)
  StandardArithmetic() noexcept : saved_(_mm_getcsr()) {
    if ((saved_ & ~kFlags) != kStandard) _mm_setcsr(kStandard);
  }
  ~StandardArithmetic() {
    if ((saved_ & ~kFlags) != kStandard) _mm_setcsr(saved_);
  }
  StandardArithmetic(const StandardArithmetic&) = delete;
  StandardArithmetic& operator=(const StandardArithmetic&) = delete;

 private:
  static constexpr unsigned kStandard =
      0x1f80;                               // nearest even, denormals kept, all exceptions masked
  static constexpr unsigned kFlags = 0x3f;  // what has happened so far
  unsigned saved_;
#endif
};

template <RowFold kRow>
void fold(std::span<const Source> sources, const Sink& sink, ncclDataType_t type, uint64_t elems) {
  ensure(!sources.empty(), "fold without sources");
  ensure(is_float(type), "fold of ", type_name(type), " elements");
  if (elems == 0) return;
  const StandardArithmetic standard;
  kRow(sources.data(), sources.size(), sink, type, elems);
}

std::vector<Kernels> usable_rows() {
  std::vector<Kernels> rows = {{"scalar", fold<scalar::fold_row>}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) rows.push_back({"avx2", fold<avx2::fold_row>});
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    rows.push_back({"avx512", fold<avx512::fold_row>});
  }
#endif
  return rows;
}

}  // namespace

std::span<const Kernels> all_kernels() {
  static const std::vector<Kernels> rows = usable_rows();
  return rows;
}

const Kernels& best_kernels() { return all_kernels().back(); }

}  // namespace slimccl::quant
