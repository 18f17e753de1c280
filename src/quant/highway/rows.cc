// The rows of the kernel table made with Highway: one source, compiled for each target by including
// this file again (foreach_target.h). Highway is used as headers only: which targets this CPU has
// is asked of the compiler's runtime, so no library is needed where SlimCCL runs.
#include <cstring>
#include <vector>

// SSSE3 would be one more row for CPUs of before 2008, the baseline is left to the scalar row, and
// of vectors without a fixed size no arrays can be made.
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/highway/rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include "quant/highway/fold-inl.h"
#endif

#if HWY_ONCE
#include "quant/rows.h"
#if HWY_ARCH_X86
#include <cpuid.h>
#endif

namespace slimccl::quant {
namespace {

#if HWY_ARCH_X86
// The instructions that Highway lets the compiler use for a target: ops/set_macros-inl.h, of which
// later versions add avx512cd.
bool has_f16c() {  // a name that clang 14 does not know
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
bool has_sse4() {
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") &&
         __builtin_cpu_supports("aes");
}
bool has_avx2() {
  return has_sse4() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") && has_f16c();
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd");
}
#endif

std::vector<Kernels> usable_rows() {
  std::vector<Kernels> rows;
#if HWY_TARGETS & HWY_SSE4
  if (has_sse4()) rows.push_back({"sse4", N_SSE4::fold});
#endif
#if HWY_TARGETS & HWY_AVX2
  if (has_avx2()) rows.push_back({"avx2", N_AVX2::fold});
#endif
#if HWY_TARGETS & HWY_AVX3
  if (has_avx512()) rows.push_back({"avx512", N_AVX3::fold});
#endif
#if HWY_STATIC_TARGET == HWY_NEON  // all CPUs that the rest of the library is compiled for
  rows.push_back({"neon", N_NEON::fold});
#endif
  return rows;
}

}  // namespace

std::span<const Kernels> vector_rows() {
  static const std::vector<Kernels> rows = usable_rows();
  return rows;
}

}  // namespace slimccl::quant
#endif  // HWY_ONCE
