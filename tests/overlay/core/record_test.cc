// What follows from the ranks' records, for all ranks alike; tags in unique ids; what people read.
#include "core/record.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cstring>

#include "base/error.h"
#include "core/check.h"
#include "core/id_tag.h"
#include "core/json_report.h"
#include "core/making.h"
#include "core/report.h"

namespace slimccl::overlay {
namespace {

using testing::HasSubstr;

std::vector<Record> four_records() {
  std::vector<Record> records(4);
  for (size_t rank = 0; rank < records.size(); ++rank) {
    records[rank].version = "1.0";
    records[rank].node = rank < 2 ? "a" : "b";
    records[rank].settings = "profile=audit";
    records[rank].kernels = "not tried";
  }
  return records;
}

TEST(OverlayRecord, EqualRanksOnSeveralNodesMayCompress) {
  const Verdict verdict = agree(four_records());
  EXPECT_EQ(verdict.standing, Reason::kCompressible);
  EXPECT_EQ(to_text(verdict.topology.value()), "2x2");
  EXPECT_FALSE(verdict.warns);
}

TEST(OverlayRecord, OneNodeIsExactWithoutAWarning) {
  auto records = four_records();
  for (Record& record : records) record.node = "a";
  EXPECT_EQ(agree(records).standing, Reason::kOneNode);
  EXPECT_FALSE(agree(records).warns);
}

TEST(OverlayRecord, DifferentSettingsAreExactAndNamed) {
  auto records = four_records();
  records[2].settings = "profile=exact";
  const Verdict verdict = agree(records);
  EXPECT_EQ(verdict.standing, Reason::kSettings);
  EXPECT_TRUE(verdict.warns);
  EXPECT_THAT(verdict.why, HasSubstr("ranks 0, 1, 3: profile=audit; rank 2: profile=exact"));
}

TEST(OverlayRecord, ItsNameIsRank0s) {
  auto records = four_records();
  for (Record& record : records) record.name = "dp";
  EXPECT_EQ(agree(records).name, "dp");
  EXPECT_EQ(agree(records).names_differ, "");
  records[2].name = "tp";
  const Verdict verdict = agree(records);
  EXPECT_EQ(verdict.standing, Reason::kCompressible);
  EXPECT_EQ(verdict.name, "dp");
  EXPECT_EQ(verdict.names_differ, "ranks 0, 1, 3: dp; rank 2: tp");
}

TEST(OverlayRecord, KernelsThatFailToLoadOnOneRankAreExactAndNamed) {
  auto records = four_records();
  for (Record& record : records) record.kernels = "ok";
  EXPECT_EQ(agree(records).standing, Reason::kCompressible);
  records[2].kernels = "no image";
  const Verdict verdict = agree(records);
  EXPECT_EQ(verdict.standing, Reason::kKernels);
  EXPECT_TRUE(verdict.warns);
  EXPECT_THAT(verdict.why, HasSubstr("ranks 0, 1, 3: ok; rank 2: no image"));
}

TEST(OverlayRecord, KernelsThatFailToLoadOnAllRanksAreExact) {
  auto records = four_records();
  for (Record& record : records) record.kernels = "no image";
  EXPECT_EQ(agree(records).standing, Reason::kKernels);
  EXPECT_THAT(agree(records).why, HasSubstr("no image"));
}

TEST(OverlayRecord, AnotherVersionIsExactAndNotReadFurther) {
  auto records = four_records();
  Record strange = records[3];
  strange.version = "0.9";
  records[3] = record_from_bytes(to_bytes(strange), "1.0");
  EXPECT_EQ(records[3].node, "");
  const Verdict verdict = agree(records);
  EXPECT_EQ(verdict.standing, Reason::kVersion);
  EXPECT_THAT(verdict.why, HasSubstr("ranks 0-2: 1.0; rank 3: 0.9"));
}

TEST(OverlayRecord, SurvivesTheWire) {
  Record record = four_records()[1];
  record.name = "dp";
  record.arena_bytes = 5;
  record.checks = 1;
  const Record read = record_from_bytes(to_bytes(record), "1.0");
  EXPECT_EQ(to_bytes(read), to_bytes(record));
  EXPECT_THROW((void)record_from_bytes({}, "1.0"), Error);
}

TEST(OverlayRecord, SilentRanksAreNamedByTheLowestOther) {
  EXPECT_EQ(explain_failure("ranks 2, 3 of 4 did not come within 10 s: are they running?"),
            "ranks 2, 3 of 4 did not answer within 10 s: is LD_PRELOAD set there?");
  EXPECT_EQ(explain_failure("no route"), "no route");
  EXPECT_EQ(speaker("ranks 2, 3 of 4 did not"), 0);
  EXPECT_EQ(speaker("rank 0 of 4 did not"), 1);
  EXPECT_EQ(speaker("ranks 0, 1 of 4 did not"), 2);
  EXPECT_EQ(speaker("ranks 0-4, 5, 8 of 9 did not"), 6);
  EXPECT_EQ(speaker("nobody listens"), 0);
}

ncclUniqueId nccls_id(const char* ip, bool v6) {
  ncclUniqueId id{};
  const uint64_t magic = 0x1234567890abcdef;
  std::memcpy(id.internal, &magic, sizeof magic);
  if (v6) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(4711);
    inet_pton(AF_INET6, ip, &address.sin6_addr);
    std::memcpy(id.internal + sizeof magic, &address, sizeof address);
  } else {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(4711);
    inet_pton(AF_INET, ip, &address.sin_addr);
    std::memcpy(id.internal + sizeof magic, &address, sizeof address);
  }
  return id;
}

TEST(OverlayTag, IsAtTheAddressThatNcclChose) {
  EXPECT_EQ(address_in(nccls_id("10.1.2.3", false)), "10.1.2.3");
  EXPECT_EQ(address_in(nccls_id("fd00::5", true)), "fd00::5");
  EXPECT_EQ(address_in(nccls_id("fe80::5", true)), "") << "of one link only";
  EXPECT_EQ(address_in({}), "");
  ncclUniqueId id = nccls_id("127.0.0.1", false);
  const ncclUniqueId before = id;
  EXPECT_FALSE(tag_of(id));
  EXPECT_TRUE(tag(id, {}));
  EXPECT_EQ(std::memcmp(id.internal, before.internal, 64), 0);
  ASSERT_TRUE(tag_of(id));
  EXPECT_EQ(address_in(*tag_of(id)), "127.0.0.1");
}

TEST(OverlayTag, LeavesAnIdAloneWhoseEndIsInUse) {
  ncclUniqueId id = nccls_id("127.0.0.1", false);
  id.internal[127] = 1;
  const ncclUniqueId before = id;
  EXPECT_FALSE(tag(id, {}));
  EXPECT_EQ(std::memcmp(&id, &before, sizeof id), 0);
  EXPECT_FALSE(tag_of(id));
}

TEST(OverlayCheck, NamesTheFirstCallThatDiffers) {
  const std::string first = signature_text({Operation::kAllReduce, 5, ncclFloat, ncclAvg}, 1);
  EXPECT_EQ(first, "call 1: all_reduce of 5 x fp32, avg");
  EXPECT_EQ(signature_text({Operation::kReduce, 5, ncclInt8, ncclRedOp_t(9), 2}, 3),
            "call 3: reduce of 5 x int8, PreMulSum, root 2");
  const std::vector<std::string> same = {first, first};
  EXPECT_EQ(mismatch(same), "");
  const std::vector<std::string> different = {first + "\ncall 2: b", first + "\ncall 2: c", first};
  EXPECT_EQ(mismatch(different),
            "rank 0: call 2: b; rank 1: call 2: c; rank 2: no further call in this group");
}

TEST(OverlayConfig, IsReadWithinItsSize) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.commName = "dp";
  EXPECT_FALSE(wishes_of(&config).blocking);
  EXPECT_EQ(wishes_of(&config).name, "dp");
  config.size = offsetof(ncclConfig_t, commName);
  EXPECT_EQ(wishes_of(&config).name, "");
  config.magic = 0;
  EXPECT_TRUE(wishes_of(&config).blocking);
  EXPECT_TRUE(wishes_of(nullptr).blocking);
  config.blocking = 1;
  setenv("NCCL_COMM_BLOCKING", "0", 1);  // goes before the program's word
  EXPECT_FALSE(wishes_of(&config).blocking);
  EXPECT_FALSE(wishes_of(nullptr).blocking);
  unsetenv("NCCL_COMM_BLOCKING");
}

TEST(OverlayReport, CountsByOperationAndReason) {
  Counts counts;
  Counts::add(counts.calls[0][static_cast<size_t>(Reason::kFloor)], 2);
  Counts::add(counts.elems[0], 10);
  Counts::add(counts.bytes[0], 40);
  Counts sum;
  sum += counts;
  sum += counts;
  EXPECT_EQ(to_text(sum, false),
            "forwarded 4 calls: all_reduce 4 (20 elements, 80 bytes); exact: 4 (under the floor)");
  Counts::add(sum.calls[0][static_cast<size_t>(Reason::kCompressed)], 1);
  Counts::add(sum.exact_bytes[0], 40);
  Counts::add(sum.compressed_bytes[0], 10);
  EXPECT_THAT(to_text(sum, false),
              HasSubstr("; those compressed would have sent 40 bytes to other nodes, and sent 10"));
  EXPECT_THAT(to_text(sum, true),
              HasSubstr("; those that would be compressed sent 40 bytes to other nodes, and would "
                        "send 10"));
  EXPECT_EQ(version_text(22809), "2.28.9");
  EXPECT_EQ(version_text(2708), "2.7.8");
  EXPECT_EQ(json_text("a\"b\\\n"), "\"a\\\"b\\\\ \"");
}

TEST(OverlayReport, ASignalsLineSaysHowManyWereCompressed) {
  State& state = State::instance();
  const uint64_t communicators = state.communicators.exchange(1);
  Counts::add(state.ended.calls[0][static_cast<size_t>(Reason::kFloor)], 2);
  Counts::add(state.ended.calls[0][static_cast<size_t>(Reason::kCompressed)], 3);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  report_in_handler(ends[1]);
  char text[1000] = {};
  EXPECT_GT(read(ends[0], text, sizeof text - 1), 0);
  EXPECT_THAT(std::string(text), HasSubstr(" calls, compressed 3: all_reduce "));
  for (const int end : ends) close(end);
  state.communicators = communicators;
}

}  // namespace
}  // namespace slimccl::overlay
