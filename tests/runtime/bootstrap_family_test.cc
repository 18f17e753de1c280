// Families of meetings, and what the serving process remembers of ids and meetings.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bootstrap_support.h"
#include "runtime/rendezvous.h"

namespace slimccl::runtime::testing_support {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::StartsWith;

void leave_all(const Ranks& ranks) {
  for (const auto& one : ranks) one->leave();
}

// "ids/meetings" of this process's server, as soon as they are `wanted`, or after two seconds.
std::string holdings_become(const std::string& wanted) {
  const auto start = Clock::now();
  while (true) {
    const Holdings now = process_holdings();
    std::string text = concat(now.ids, "/", now.meetings);
    if (text == wanted || seconds_since(start) > 2) return text;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void expect_holdings(size_t ids, size_t meetings) {
  const std::string wanted = concat(ids, "/", meetings);
  EXPECT_EQ(holdings_become(wanted), wanted);
}

// Every test leaves the process's server empty, and counts on it.
class FamilyTest : public testing::Test {
 protected:
  FamilyTest() { expect_holdings(0, 0); }
};

TEST_F(FamilyTest, BranchesAreMeetingsOfTheirOwn) {
  const ncclUniqueId family = make_family_id(local_config());
  EXPECT_EQ(id_text(branch_of(family, 7)), id_text(branch_of(family, 7)));
  EXPECT_NE(id_text(branch_of(family, 7)), id_text(branch_of(family, 8)));
  EXPECT_EQ(id_text(branch_of(branch_of(family, 7), 8)), id_text(branch_of(family, 8)));
  const Ranks a = join_all(branch_of(family, 0), 2);
  const Ranks b = join_all(branch_of(family, ~uint64_t{0}), 3);
  expect_holdings(1, 2);
  a[0]->abort("only this one");
  EXPECT_EQ(to_text(failure_within(*a[1], 1)), "0: rank 0 aborted: only this one");
  const auto said = on_threads(iota(3), [&](int rank) {
    const auto all = b[static_cast<size_t>(rank)]->all_gather(bytes_of(concat(rank)), 5);
    ensure(all.size() == 3 && all[2] == bytes_of("2"), "bytes");
  });
  EXPECT_THAT(said, Each(""));
  leave_all(b);
  withdraw_id(family);
}

TEST_F(FamilyTest, IsServedByItsMakerWhoTakesNoPart) {
  Process maker([](const Process::Say& say) {
    say(id_text(make_family_id(local_config())));
    pause();
  });
  const ncclUniqueId family = maker.hear_id();
  leave_all(join_all(branch_of(family, 1), 2));
  const Ranks ranks = join_all(branch_of(family, 2), 3);
  maker.kill();
  EXPECT_EQ(to_text(failure_within(*ranks[0], 0.2)), "nothing");
}

TEST_F(FamilyTest, ABranchThatIsOverCanBeMetAgainAtOnce) {
  const ncclUniqueId family = make_family_id(local_config());
  Ranks earlier;  // its connections stay until all meetings are over: the next need not wait for it
  for (int round = 0; round < 10; ++round) {
    Ranks ranks = join_all(branch_of(family, 5), 1 + round % 3);
    EXPECT_EQ(ranks[0]->check(), std::nullopt);
    leave_all(ranks);
    for (auto& one : ranks) earlier.push_back(std::move(one));
  }
  expect_holdings(1, 0);
  withdraw_id(family);
}

TEST_F(FamilyTest, ABranchThatSomebodyHasNotLeftIsStillThatMeeting) {
  const ncclUniqueId family = make_family_id(local_config());
  const ncclUniqueId id = branch_of(family, 5);
  const Ranks ranks = join_all(id, 2);
  ranks[0]->leave();
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(id, 2, 0, 5); }),
              StartsWith("5: rank 0 was taken twice"));
  EXPECT_EQ(to_text(failure_within(*ranks[1], 0.1)), "nothing");
  ranks[1]->leave();
  leave_all(join_all(id, 2));
  withdraw_id(family);
}

TEST_F(FamilyTest, BranchesThatAreOverLeaveNothingBehind) {
  const ncclUniqueId family = make_family_id(local_config());
  for (uint64_t branch = 0; branch < 60; ++branch) {
    Ranks ranks = join_all(branch_of(family, branch), 2);
    if (branch % 3 == 0) leave_all(ranks);
    if (branch % 3 == 1) ranks[1]->abort("an end as well");  // the other one dies
  }
  expect_holdings(1, 0);
  withdraw_id(family);
  expect_holdings(0, 0);
}

TEST_F(FamilyTest, ABranchWhoseSetUpFailedTellsThoseWhoComeLate) {
  const ncclUniqueId family = make_family_id(local_config());
  const ncclUniqueId id = branch_of(family, 3);
  const std::string said = outcome([&] { (void)Bootstrap::join(id, 3, 0, 0.2); });
  EXPECT_THAT(said, StartsWith("6: ranks 1, 2 of 3 did not come"));
  EXPECT_EQ(outcome([&] { (void)Bootstrap::join(id, 3, 1, 5); }), said);
  EXPECT_EQ(outcome([&] { (void)Bootstrap::join(id, 3, 2, 5); }), said);
  withdraw_id(family);
}

TEST_F(FamilyTest, ABranchWhoseSetUpFailedIsForgottenInTheEnd) {
  const ncclUniqueId family = make_family_id(local_config());
  const auto start = Clock::now();
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(branch_of(family, 3), 2, 0, 0.4); }),
              StartsWith("6: rank 1 of 2 did not come"));
  expect_holdings(1, 1);
  expect_holdings(1, 0);
  EXPECT_GT(seconds_since(start), 0.75);
  EXPECT_LT(seconds_since(start), 1.5);
  // Nobody was ever in this one.
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(branch_of(family, 4), 2, 2, 0.2); }),
              StartsWith("5: rank 2 "));
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(branch_of(family, 4), 2, 0, 0.2); }),
              StartsWith("5: rank 2 "));
  expect_holdings(1, 0);
  withdraw_id(family);
}

TEST_F(FamilyTest, OnlyBranchesOfFamiliesCanBeJoined) {
  const ncclUniqueId family = make_family_id(local_config());
  const ncclUniqueId plain = make_unique_id(local_config());
  wire::Id parsed = wire::parse_id(branch_of(family, 1));
  parsed.secret.front() ^= std::byte{1};
  const ncclUniqueId wrong = wire::to_unique_id(parsed);
  parsed = wire::parse_id(family);
  parsed.kind = wire::Id::Kind::kPlain;
  const auto refused = AllOf(StartsWith("2: "), HasSubstr("refused this unique id"));
  for (const auto& id : {branch_of(plain, 0), branch_of(plain, 1), wrong, to_unique_id(parsed)}) {
    EXPECT_THAT(outcome([&] { (void)Bootstrap::join(id, 2, 0, 5); }), refused);
  }
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(family, 2, 0, 5); }),
              AllOf(StartsWith("4: "), HasSubstr("family")));
  expect_holdings(2, 0);
  leave_all(join_all(plain, 2));
  expect_holdings(1, 0);
  withdraw_id(family);
  EXPECT_THAT(outcome([&] { (void)branch_of(ncclUniqueId{}, 1); }), StartsWith("4: "));
}

TEST_F(FamilyTest, WhatWasWithdrawnIsRefused) {
  const ncclUniqueId family = make_family_id(local_config());
  const ncclUniqueId plain = make_unique_id(local_config());
  expect_holdings(2, 0);
  withdraw_id(plain);
  withdraw_id(branch_of(family, 1));  // no effect
  expect_holdings(1, 0);
  leave_all(join_all(branch_of(family, 1), 2));
  withdraw_id(family);
  withdraw_id(family);
  expect_holdings(0, 0);
  for (const auto& id : {plain, branch_of(family, 1)}) {
    EXPECT_THAT(outcome([&] { (void)Bootstrap::join(id, 2, 0, 5); }),
                AllOf(StartsWith("2: "), HasSubstr("refused this unique id")));
  }
}

TEST_F(FamilyTest, MeetingsUnderWayOutliveTheirFamily) {
  const ncclUniqueId family = make_family_id(local_config());
  const ncclUniqueId plain = make_unique_id(local_config());
  for (const auto& [made, met] : {std::pair{family, branch_of(family, 9)}, {plain, plain}}) {
    const Ranks ranks = join_all(met, 2);
    withdraw_id(made);
    const auto said = on_threads(iota(2), [&](int rank) {
      (void)ranks[static_cast<size_t>(rank)]->all_gather(bytes_of("x"), 5);
    });
    EXPECT_THAT(said, Each(""));
    leave_all(ranks);
  }
  expect_holdings(0, 0);
}

// Its set-up fails at once, but with a time-out that is far away.
void fail_set_up(const ncclUniqueId& id, int ranks) {
  Process dies([&](const Process::Say&) { (void)Bootstrap::join(id, ranks, 0, 30); });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  dies.kill();
  dies.wait();
}

TEST_F(FamilyTest, ABranchWhoseFailureAllKnowCanBeMetAgain) {
  const ncclUniqueId family = make_family_id(local_config());
  const ncclUniqueId id = branch_of(family, 3);
  fail_set_up(id, 3);
  for (const int rank : {1, 1, 2}) {
    expect_holdings(1, 1);
    EXPECT_THAT(outcome([&] { (void)Bootstrap::join(id, 3, rank, 5); }),
                StartsWith("6: rank 0: process died"));
  }
  expect_holdings(1, 0);
  leave_all(join_all(id, 3));
  withdraw_id(family);
}

TEST_F(FamilyTest, AFailedSetUpGoesWithItsId) {
  const ncclUniqueId family = make_family_id(local_config());
  const ncclUniqueId plain = make_unique_id(local_config());
  fail_set_up(branch_of(family, 1), 2);
  fail_set_up(plain, 2);
  expect_holdings(2, 2);
  withdraw_id(family);
  withdraw_id(plain);
  expect_holdings(0, 0);
}

TEST_F(FamilyTest, WithdrawingWhatIsNotOursDoesNothing) {
  const ncclUniqueId plain = make_unique_id(local_config());
  wire::Id forged = wire::parse_id(plain);
  forged.secret.back() ^= std::byte{1};
  withdraw_id(wire::to_unique_id(forged));
  withdraw_id(ncclUniqueId{});
  Process maker([](const Process::Say& say) {
    say(id_text(make_unique_id(local_config())));
    pause();
  });
  const ncclUniqueId other = maker.hear_id();
  withdraw_id(other);
  Process child([&](const Process::Say& say) {
    withdraw_id(plain);  // a copy of our server, that serves nobody
    say("+");
  });
  EXPECT_EQ(child.hear_all(), "+");
  expect_holdings(1, 0);
  leave_all(join_all(plain, 2));
  leave_all(join_all(other, 2));
}

}  // namespace
}  // namespace slimccl::runtime::testing_support
