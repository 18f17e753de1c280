// Our declarations of the CUDA driver against the toolkit's cuda.h: values, versions of functions,
// and parameters one by one. Without the toolkit it is skipped.
#include "device/cuda/abi.h"

#include <gtest/gtest.h>

#include <type_traits>

#include "cuda/emulated/attributes.h"
#include "cuda/emulated/more_abi.h"

#ifdef HAVE_CUDA_HEADER
#include <cuda.h>

namespace slimccl::device {
namespace {

template <class T>
constexpr bool kIsWord = std::is_integral_v<T> || std::is_enum_v<T>;
template <class A, class B>
constexpr bool kSizesEqual = sizeof(A) == sizeof(B);
template <class T>
constexpr bool kIsPointer = std::is_pointer_v<T>;

// The same to a caller.
template <class A, class B>
constexpr bool kSamePlace = (kIsPointer<A> && kIsPointer<B>) ||
                            (kIsWord<A> && kIsWord<B> && kSizesEqual<A, B>);

template <class A, class B>
struct SameAbi : std::false_type {};
template <class A, class... As, class B, class... Bs>
requires(sizeof...(As) == sizeof...(Bs)) struct SameAbi<A(As...), B(Bs...)>
    : std::bool_constant<kSamePlace<A, B> && (kSamePlace<As, Bs> && ...)> {
};

static_assert(!SameAbi<int(int), int(long)>::value);
static_assert(!SameAbi<int(int, void*), int(void*, int)>::value);
static_assert(!SameAbi<int(int), int(int, int)>::value);
static_assert(SameAbi<int(int, void*), unsigned(unsigned, char**)>::value);

#define SLIMCCL_TEXT_OF(name) #name
#define SLIMCCL_TEXT(name) SLIMCCL_TEXT_OF(name)

// cuda.h makes macros of the functions that have versions: the name of the newest one, which must
// be the one that we ask for. Without SLIMCCL_TEXT's detour the name would be taken as it stands.
TEST(CudaAbiTest, FunctionsAreThoseOfTheToolkit) {
#define SLIMCCL_CHECK(name, symbol, ...)                                                         \
  EXPECT_STREQ(SLIMCCL_TEXT(name), #symbol);                                                     \
  EXPECT_TRUE((SameAbi<CUresult(__VA_ARGS__), std::remove_pointer_t<decltype(&::name)>>::value)) \
      << #symbol;
  SLIMCCL_CUDA_FUNCTIONS(SLIMCCL_CHECK)
  SLIMCCL_MORE_CUDA_FUNCTIONS(SLIMCCL_CHECK)
#undef SLIMCCL_CHECK
}

TEST(CudaAbiTest, ValuesAreThoseOfTheToolkit) {
#define SLIMCCL_CHECK(name, value) EXPECT_EQ(static_cast<long>(::name), value) << #name;
  SLIMCCL_CUDA_RESULTS(SLIMCCL_CHECK)
  SLIMCCL_CUDA_CONSTANTS(SLIMCCL_CHECK)
  SLIMCCL_MORE_CUDA_RESULTS(SLIMCCL_CHECK)
  SLIMCCL_MORE_CUDA_CONSTANTS(SLIMCCL_CHECK)
#undef SLIMCCL_CHECK
#define SLIMCCL_CHECK(name, number, ...) EXPECT_EQ(static_cast<long>(::name), number) << #name;
  SLIMCCL_EMULATED_ATTRIBUTES(SLIMCCL_CHECK)
#undef SLIMCCL_CHECK
  EXPECT_EQ(CU_MEMHOSTALLOC_PORTABLE, kMemHostAllocPortable);
  const auto number = [](auto stream) { return reinterpret_cast<uintptr_t>(stream); };
  EXPECT_EQ(number(CU_STREAM_LEGACY), number(legacy_stream()));
  EXPECT_EQ(number(CU_STREAM_PER_THREAD), number(per_thread_stream()));
}

}  // namespace
}  // namespace slimccl::device

#else
TEST(CudaAbiTest, FunctionsAreThoseOfTheToolkit) {
  GTEST_SKIP() << "no cuda.h: nvcc was not found, or is not part of a toolkit";
}
#endif
