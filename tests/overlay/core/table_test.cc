// The side table: found while alive, used again later, never growing with what has ended.
#include "core/table.h"

#include <gtest/gtest.h>

#include <thread>

namespace slimccl::overlay {
namespace {

ncclComm_t handle(size_t number) {
  return reinterpret_cast<ncclComm_t>(0x7f0000000000 + number * 64);
}

const slimccl_nccl kNccl{};

TEST(OverlayTable, FindsWhatIsAlive) {
  const auto table = std::make_unique<Table>();
  EXPECT_EQ(table->find(handle(1)), nullptr);
  for (size_t i = 0; i < 1000; ++i) {
    Entry& entry = table->insert(handle(i), &kNccl);
    EXPECT_EQ(table->find(handle(i)), &entry);
  }
  for (size_t i = 0; i < 1000; i += 2) EXPECT_TRUE(table->retire(*table->find(handle(i)), false));
  for (size_t i = 0; i < 1000; ++i) EXPECT_EQ(table->find(handle(i)) != nullptr, i % 2 == 1) << i;
}

TEST(OverlayTable, AHandleUsedAgainIsANewCommunicator) {
  const auto table = std::make_unique<Table>();
  Entry& first = table->insert(handle(1), &kNccl);
  first.rank = 5;
  Entry& second = table->insert(handle(1), &kNccl);
  EXPECT_NE(&first, &second);
  EXPECT_EQ(table->find(handle(1)), &second);
  EXPECT_TRUE(first.ended);
  EXPECT_EQ(first.rank, 5) << "a call may still be using it";
}

TEST(OverlayTable, FindsOrInserts) {
  const auto table = std::make_unique<Table>();
  const auto [entry, fresh] = table->find_or_insert(handle(1), &kNccl);
  EXPECT_TRUE(fresh);
  EXPECT_EQ(table->find_or_insert(handle(1), &kNccl), std::pair(entry, false));
}

TEST(OverlayTable, AnAbortedOneIsFoundAWhileLonger) {
  const auto table = std::make_unique<Table>();
  Entry& entry = table->insert(handle(1), &kNccl);
  EXPECT_TRUE(table->retire(entry, true));
  EXPECT_FALSE(table->retire(entry, true)) << "ended once";
  EXPECT_EQ(table->find(handle(1)), &entry);
  int alive = 0;
  table->for_each([&](Entry&) { ++alive; });
  EXPECT_EQ(alive, 0);
}

TEST(OverlayTable, WhatIsStillEndingIsNotUsedAgain) {
  const auto table = std::make_unique<Table>();
  Entry& slow = table->insert(handle(0), &kNccl);
  slow.rank = 5;
  EXPECT_TRUE(table->retire(slow, false));
  for (size_t i = 1; i < 4 * Table::kQuarantine; ++i) {
    Entry& other = table->insert(handle(i), &kNccl);
    EXPECT_NE(&other, &slow) << i;
    table->retire(other, false);
    table->release(other);
  }
  EXPECT_EQ(slow.rank, 5);
}

TEST(OverlayTable, DoesNotGrowWithWhatHasEnded) {
  const auto table = std::make_unique<Table>();
  for (size_t i = 0; i < 5 * Table::kSlots; ++i) {
    Entry& entry = table->insert(handle(i), &kNccl);
    table->retire(entry, i % 2 == 0);
    table->release(entry);
  }
  EXPECT_LE(table->made(), Table::kQuarantine + 2);
  EXPECT_EQ(table->find(handle(123456789)), nullptr);
}

TEST(OverlayTable, BeyondItsRoomAllShareOne) {
  const auto table = std::make_unique<Table>();
  for (size_t i = 0; i < Table::kMostEntries; ++i) {
    ASSERT_FALSE(table->shared(table->insert(handle(i), &kNccl)));
  }
  Entry& shared = table->insert(handle(Table::kMostEntries), &kNccl);
  EXPECT_TRUE(table->shared(shared));
  EXPECT_EQ(shared.nccl, nullptr) << "their makers differ";
  EXPECT_EQ(table->find_or_insert(handle(Table::kMostEntries), &kNccl), std::pair(&shared, false));
}

TEST(OverlayTable, LookingUpWhileOthersComeAndGo) {
  const auto table = std::make_unique<Table>();
  Entry& steady = table->insert(handle(7), &kNccl);
  std::thread changer([&] {
    for (size_t i = 100; i < 3000; ++i) {
      Entry& entry = table->insert(handle(100 + i % 200), &kNccl);
      table->retire(entry, false);
      table->release(entry);
    }
  });
  for (int i = 0; i < 20000; ++i) {
    if (table->find(handle(7)) != &steady) ADD_FAILURE() << i;
  }
  changer.join();
}

}  // namespace
}  // namespace slimccl::overlay
