// link() on plans small enough to see: who must wait for whom, and who need not.
#include "collectives/link.h"

#include <gtest/gtest.h>

namespace slimccl::collectives {
namespace {

using After = std::vector<std::vector<uint32_t>>;

Operand bytes(Region region, uint64_t offset, uint64_t size) {
  return {{region, offset, size}, Codec::kTensor};
}

Step copy(int level, const Operand& from, const Operand& to) {
  return {.kind = Kind::kCopy, .level = level, .elems = from.slice.bytes, .from = {from}, .to = to};
}
Step send(int level, const Operand& from) {
  return {
      .kind = Kind::kSend, .level = level, .peer = 1, .elems = from.slice.bytes, .from = {from}};
}
Step recv(int level, const Operand& to) {
  return {.kind = Kind::kRecv, .level = level, .peer = 1, .elems = to.slice.bytes, .to = to};
}

After after(std::vector<Step> steps, const Alias& alias = Alias::none()) {
  return link({std::move(steps), 1024}, alias).after;
}

const auto kScratch = [](uint64_t offset, uint64_t size) {
  return bytes(Region::kScratch, offset, size);
};
const auto kIn = [](uint64_t offset, uint64_t size) { return bytes(Region::kInput, offset, size); };
const auto kOut = [](uint64_t offset, uint64_t size) {
  return bytes(Region::kOutput, offset, size);
};

TEST(Link, AReaderWaitsForTheWriter) {
  EXPECT_EQ(after({recv(0, kScratch(0, 64)), send(1, kScratch(32, 8))}), (After{{}, {0}}));
}

TEST(Link, AWriterWaitsForReadersAndForTheWriterBefore) {
  EXPECT_EQ(after({recv(0, kScratch(0, 64)), send(1, kScratch(0, 64)), recv(2, kScratch(0, 64))}),
            (After{{}, {0}, {0, 1}}));
}

TEST(Link, NeighboursThatOnlyTouchDoNotWait) {
  EXPECT_EQ(after({recv(0, kScratch(0, 64)), recv(0, kScratch(64, 64)), send(1, kScratch(128, 8))}),
            (After{{}, {}, {}}));
}

TEST(Link, OneSliceMayWaitForManyWriters) {
  EXPECT_EQ(
      after({recv(0, kScratch(0, 64)), recv(0, kScratch(64, 64)), send(1, kScratch(10, 100))}),
      (After{{}, {}, {0, 1}}));
}

TEST(Link, InputAndOutputMeetOnlyWhereTheAliasSaysSo) {
  const std::vector<Step> steps = {send(0, kIn(0, 64)), recv(1, kOut(0, 64))};
  EXPECT_EQ(after(steps), (After{{}, {}}));
  EXPECT_EQ(after(steps, Alias::at(0)), (After{{}, {0}}));
  EXPECT_EQ(after(steps, Alias::at(63)), (After{{}, {0}}));
  EXPECT_EQ(after(steps, Alias::at(64)), (After{{}, {}}));
  EXPECT_EQ(after(steps, Alias::at(-64)), (After{{}, {}}));
  EXPECT_EQ(after(steps, Alias::at(-63)), (After{{}, {0}}));
}

TEST(Link, UnknownAliasOrdersLevelsOnTheBuffersAndLeavesScratchAlone) {
  EXPECT_EQ(after({send(0, kIn(0, 8)), recv(0, kScratch(0, 8)), recv(0, kOut(64, 8)),
                   send(1, kOut(512, 8)), recv(2, kOut(700, 8))},
                  Alias::unknown()),
            (After{{}, {}, {}, {0, 2}, {3}}));
}

TEST(Link, AStepThatReadsWhatItWritesDoesNotWaitForItself) {
  EXPECT_EQ(after({copy(0, kScratch(0, 64), kScratch(0, 64))}), (After{{}}));
}

TEST(Link, EmptySlicesTouchNothing) {
  EXPECT_EQ(after({recv(0, kScratch(0, 64)), send(1, kScratch(8, 0))}), (After{{}, {}}));
}

}  // namespace
}  // namespace slimccl::collectives
