// What ranks conclude from each other's records: the same everywhere, exact where they differ.
#include "runtime/agreement.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace slimccl::runtime {
namespace {

std::vector<Record> records(const std::vector<std::string>& nodes) {
  std::vector<Record> all;
  for (const std::string& node : nodes) {
    Record record;
    record.version = "1";
    record.node = node;
    record.ucx_version = "1.13.1";
    record.profile = "zeropp";
    record.floor_elems = 10;
    record.segment_elems = 3000;
    record.window = 5;
    record.net_gbits = 8;
    all.push_back(record);
  }
  return all;
}

TEST(Agreement, ARecordSurvivesTheWire) {
  Record record = records({"n"}).front();
  record.host = std::string("h\0st", 4);
  record.pid = UINT64_MAX;
  const Record back = record_from_bytes(to_bytes(record));
  EXPECT_EQ(back.host, record.host);
  EXPECT_EQ(back.pid, record.pid);
  EXPECT_EQ(back.profile, "zeropp");
  EXPECT_EQ(back.net_gbits, 8);
}

TEST(Agreement, CutOrForeignBytesAreRefused) {
  auto bytes = to_bytes(records({"n"}).front());
  for (const size_t size : {size_t{0}, size_t{3}, size_t{10}, bytes.size() - 1}) {
    EXPECT_THROW((void)record_from_bytes(ConstBytes(bytes).first(size)), Error) << size;
  }
  bytes[0] = std::byte{0};
  EXPECT_THROW((void)record_from_bytes(bytes), Error);
}

TEST(Agreement, EqualNodeNamesShareANode) {
  const Agreement agreement = agree(records({"b", "a", "b", "a"}));
  EXPECT_EQ(to_text(agreement.topology), "0,1,0,1");
  EXPECT_EQ(agreement.policy.profile, "zeropp");
  EXPECT_EQ(agreement.policy.net_bytes_per_s, 1e9);
  EXPECT_EQ(agreement.segment_elems, 4096u) << "rounded up to superblocks";
  EXPECT_EQ(agreement.warning, "");
}

TEST(Agreement, CudaMemoryIsForAllRanksOrForNone) {
  auto all = records({"a", "a", "b"});
  for (Record& record : all) record.staging_mb = 3 + record.node.front() - 'a';
  EXPECT_EQ(agree(all).staging_bytes, 0u);
  for (Record& record : all) record.device = 0;
  EXPECT_EQ(agree(all).staging_bytes, uint64_t{3} << 20) << "rank 0's";
  EXPECT_EQ(agree(all).warning, "");
  all[1].device = -1;
  EXPECT_EQ(agree(all).staging_bytes, 0u);
  EXPECT_NE(agree(all).warning.find("ranks 0, 2 have a CUDA device current and ranks 1 have none"),
            std::string::npos);
}

TEST(Agreement, DifferentProfilesMakeItExactAndNameTheRanks) {
  auto all = records({"a", "a", "b"});
  all[1].profile = "exact";
  const Agreement agreement = agree(all);
  EXPECT_EQ(agreement.policy.profile, "exact");
  EXPECT_NE(agreement.warning.find("exact on ranks 1; zeropp on ranks 0, 2"), std::string::npos)
      << agreement.warning;
}

TEST(Agreement, TheNumbersAreRankZeros) {
  auto all = records({"a", "a"});
  all[1].floor_elems = 99;
  all[1].window = 1;
  EXPECT_EQ(agree(all).policy.floor_elems, 10u);
  EXPECT_EQ(agree(all).window, 5u);
}

TEST(Agreement, DifferentVersionsAreRefusedByRank) {
  auto all = records({"a", "b", "b"});
  all[2].version = "2";
  try {
    (void)agree(all);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("1 on ranks 0, 1; 2 on ranks 2"), std::string::npos)
        << error.what();
  }
  all = records({"a", "b"});
  all[1].ucx_version = "1.22.0";
  EXPECT_THROW((void)agree(all), Error);
  all[1].node = "a";
  EXPECT_NO_THROW((void)agree(all)) << "UCX only matters between nodes";
}

}  // namespace
}  // namespace slimccl::runtime
