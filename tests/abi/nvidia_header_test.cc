// Our nccl.h and nccl_device.h against the toolkit's: all of their constants, structs and functions
// must be the same in ours. Each header is compiled on its own into a table (two cannot be included
// together), and the tables are compared; without NVIDIA's, or with another version, it is skipped.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

using Table = std::vector<std::pair<std::string, std::string>>;
#ifndef SKIP_REASON
Table our_table();
Table nvidia_table();
#endif

TEST(NvidiaHeader, SaysTheSameAsOurs) {
#ifdef SKIP_REASON
  GTEST_SKIP() << SKIP_REASON;
#else
  const Table ours = our_table();
  const Table theirs = nvidia_table();
  ASSERT_EQ(ours.size(), theirs.size());
  ASSERT_GT(theirs.size(), 190u) << "the table of names is not whole";
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_EQ(ours[i], theirs[i]);
#endif
}
