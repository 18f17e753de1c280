// Our nccl.h against the toolkit's: the same names must have the same values and sizes. Each header
// is compiled on its own into a table, and the tables are compared; without NVIDIA's it is skipped.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

using Values = std::vector<std::pair<std::string, long>>;
Values our_nccl_values();
#ifdef HAVE_NVIDIA_HEADER
Values nvidia_nccl_values();
#endif

TEST(NvidiaHeader, SaysTheSameAsOurs) {
#ifdef HAVE_NVIDIA_HEADER
  const Values ours = our_nccl_values();
  const Values theirs = nvidia_nccl_values();
  ASSERT_EQ(ours.size(), theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_EQ(ours[i], theirs[i]);
#else
  GTEST_SKIP() << "no nccl.h of the CUDA toolkit in /usr/local/cuda/include";
#endif
}
