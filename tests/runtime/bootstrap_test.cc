// Set-up and exchanges, and who is kept out of them.
#include "runtime/bootstrap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "bootstrap_support.h"

namespace slimccl::runtime::testing_support {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::StartsWith;

// Lengths differ by rank and round, with nothing and a megabyte among them.
std::vector<std::byte> contribution(int rank, int round) {
  const size_t lengths[] = {0, 1, 1 << 20, 77, 4096};
  return std::vector<std::byte>(lengths[static_cast<size_t>(rank + round) % 5],
                                static_cast<std::byte>(rank * 16 + round));
}

class AllGatherTest : public testing::TestWithParam<int> {};

TEST_P(AllGatherTest, GivesEveryRanksBytesByRank) {
  const int ranks = GetParam();
  const ncclUniqueId id = make_unique_id(local_config());
  const auto said = on_threads(iota(ranks), [&](int rank) {
    const auto bootstrap = Bootstrap::join(id, ranks, rank, 10);
    for (int round = 0; round < 3; ++round) {
      const auto all = bootstrap->all_gather(contribution(rank, round), 10);
      ensure(all.size() == static_cast<size_t>(ranks), "ranks");
      for (int from = 0; from < ranks; ++from) {
        ensure(all[static_cast<size_t>(from)] == contribution(from, round), "bytes of ", from);
      }
    }
    ensure(!bootstrap->check(), "a failure");
    bootstrap->leave();
  });
  EXPECT_THAT(said, Each(""));
}

INSTANTIATE_TEST_SUITE_P(Ranks, AllGatherTest, testing::Values(1, 2, 7, 17));

TEST(BootstrapTest, RanksAsProcesses) {
  const ncclUniqueId id = make_unique_id(local_config());
  std::vector<std::unique_ptr<Process>> processes;
  for (int rank = 0; rank < 4; ++rank) {
    processes.push_back(std::make_unique<Process>([&, rank](const Process::Say& say) {
      const auto bootstrap = Bootstrap::join(id, 4, rank, 10);
      std::string text;
      for (const auto& part : bootstrap->all_gather(bytes_of(concat("<", rank, ">")), 10)) {
        text += std::string(reinterpret_cast<const char*>(part.data()), part.size());
      }
      bootstrap->leave();
      say(text);
    }));
  }
  for (const auto& process : processes) EXPECT_EQ(process->hear_all(), "<0><1><2><3>");
}

TEST(BootstrapTest, TwoCommunicatorsAtOnceOfOneProcess) {
  const ncclUniqueId first = make_unique_id(local_config());
  const ncclUniqueId second = make_unique_id(local_config());
  EXPECT_NE(id_text(first), id_text(second));
  const Ranks a = join_all(first, 2);
  const Ranks b = join_all(second, 3);
  a[0]->abort("only this one");
  EXPECT_EQ(to_text(failure_within(*a[1], 1)), "0: rank 0 aborted: only this one");
  EXPECT_EQ(to_text(failure_within(*b[1], 0.1)), "nothing");
  for (const auto& one : b) one->leave();
}

TEST(BootstrapTest, TimeoutNamesTheMissingOnEveryRankThatCame) {
  const ncclUniqueId id = make_unique_id(local_config());
  const auto start = Clock::now();
  const auto said =
      on_threads({0, 1, 3, 4, 6, 7}, [&](int rank) { (void)Bootstrap::join(id, 8, rank, 0.5); });
  EXPECT_LT(seconds_since(start), 2);
  const std::string server = wire::parse_id(id).server.text();
  EXPECT_THAT(said, Each(concat("6: ranks 2, 5 of 8 did not come within 0.5 s: are they running, "
                                "and can they reach ",
                                server, "?")));
  // ...and to those who come too late.
  EXPECT_EQ(outcome([&] { (void)Bootstrap::join(id, 8, 2, 5); }), said[0]);
}

TEST(BootstrapTest, TimeoutOfAnExchangeNamesWhoDidNotAnswer) {
  const Ranks ranks = join_all(make_unique_id(local_config()), 4);
  const auto said = on_threads(
      {0, 2, 3}, [&](int rank) { (void)ranks[static_cast<size_t>(rank)]->all_gather({}, 0.3); });
  EXPECT_THAT(said, Each("6: rank 1 of 4 did not answer within 0.3 s: is it still running?"));
}

TEST(BootstrapTest, AnIdThatIsNotOurs) {
  const auto said = outcome([] { (void)Bootstrap::join(ncclUniqueId{}, 2, 0, 5); });
  EXPECT_THAT(said, StartsWith("4: this unique id was not made by SlimCCL"));
  ncclUniqueId other = make_unique_id(local_config());
  ++other.internal[8];
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(other, 2, 0, 5); }),
              HasSubstr(concat("of bootstrap version ", wire::kVersion + 1,
                               ", this process speaks version ", wire::kVersion)));
}

TEST(BootstrapTest, WrongSecretIsKeptOutAndNotCounted) {
  const ncclUniqueId id = make_unique_id(local_config());
  wire::Id parsed = wire::parse_id(id);
  parsed.secret.back() ^= std::byte{1};
  const ncclUniqueId wrong = wire::to_unique_id(parsed);
  testing::internal::CaptureStderr();
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(wrong, 2, 0, 5); }),
              testing::AllOf(StartsWith("2: "), HasSubstr("refused this unique id")));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("closed the connection of 127.0.0.1:"));
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  for (const auto& one : join_all(id, 2)) one->leave();
}

TEST(BootstrapTest, AnIdOfACommunicatorThatEndedIsRefused) {
  const ncclUniqueId id = make_unique_id(local_config());
  for (const auto& one : join_all(id, 2)) one->leave();
  // Which of the two depends on whether the server has seen the connections close.
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(id, 2, 0, 5); }),
              testing::AnyOf(HasSubstr("Each communicator needs a fresh one"),
                             HasSubstr("each communicator its own id")));
}

TEST(BootstrapTest, ARankTakenTwiceIsToldToBothNamingBoth) {
  const ncclUniqueId id = make_unique_id(local_config());
  const auto body = [&](const Process::Say& say) {
    say(outcome([&] { (void)Bootstrap::join(id, 2, 0, 5); }));
  };
  Process first(body);
  Process second(body);
  const std::string said = first.hear_all();
  EXPECT_THAT(said, StartsWith("5: rank 0 was taken twice, by "));
  EXPECT_THAT(said, HasSubstr(concat(":", first.pid())));
  EXPECT_THAT(said, HasSubstr(concat(":", second.pid())));
  EXPECT_EQ(second.hear_all(), said);
}

TEST(BootstrapTest, ARankTakenTwiceAfterSetUpDisturbsNobodyElse) {
  const ncclUniqueId id = make_unique_id(local_config());
  const Ranks ranks = join_all(id, 2);
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(id, 2, 1, 5); }),
              StartsWith("5: rank 1 was taken twice"));
  EXPECT_EQ(to_text(failure_within(*ranks[0], 0.1)), "nothing");
}

TEST(BootstrapTest, DifferentNumbersOfRanksAreToldToAll) {
  const ncclUniqueId id = make_unique_id(local_config());
  const auto said =
      on_threads({0, 1}, [&](int rank) { (void)Bootstrap::join(id, rank == 0 ? 4 : 8, rank, 5); });
  EXPECT_EQ(said[0], said[1]);
  EXPECT_THAT(said[0], StartsWith("5: rank "));
  EXPECT_THAT(said[0], HasSubstr("counts 4"));
  EXPECT_THAT(said[0], HasSubstr("counts 8"));
}

TEST(BootstrapTest, ARankOutOfRangeIsToldToAll) {
  const ncclUniqueId id = make_unique_id(local_config());
  const auto said = on_threads({0, 4}, [&](int rank) { (void)Bootstrap::join(id, 4, rank, 5); });
  EXPECT_THAT(said, Each(testing::AllOf(StartsWith("5: rank 4 ("), HasSubstr("is out of range"))));
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(id, 0, 0, 5); }), StartsWith("5: "));
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(id, 2, -1, 5); }), StartsWith("5: "));
}

TEST(BootstrapTest, ADeadRendezvousIsSaidSoonWithItsAddress) {
  Process maker([](const Process::Say& say) { say(id_text(make_unique_id(local_config()))); });
  const ncclUniqueId id = maker.hear_id();
  maker.wait();
  const auto start = Clock::now();
  const std::string said = outcome([&] { (void)Bootstrap::join(id, 2, 0, 30); });
  EXPECT_THAT(said, StartsWith(concat("2: nobody listens at ", wire::parse_id(id).server.text())));
  EXPECT_LT(seconds_since(start), 5);
}

TEST(BootstrapTest, StrangersNeitherStopNorDelayTheSetUp) {
  const ncclUniqueId id = make_unique_id(local_config());
  std::vector<int> idle;
  for (int i = 0; i < 300; ++i) idle.push_back(stranger(id, ""));
  std::string huge(12, '\0');  // a header that announces 4 GB
  std::memcpy(huge.data(), &wire::kMagic, 4);
  std::memcpy(huge.data() + 4, &wire::kVersion, 2);
  huge.replace(6, 6, "\1\0\xff\xff\xff\xff", 6);
  wire::Writer half_hello(wire::Type::kHello);
  const auto half = half_hello.put(uint64_t{1}).finish();  // whole frame, but too short a hello
  const std::vector<int> loud = {
      stranger(id, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), stranger(id, std::string(65536, '\x7f')),
      stranger(id, huge), stranger(id, {reinterpret_cast<const char*>(half.data()), half.size()})};
  const int slow = stranger(id, huge.substr(0, 7));
  const auto start = Clock::now();
  const Ranks ranks = join_all(id, 4);
  EXPECT_LT(seconds_since(start), 1);
  for (const int fd : loud) EXPECT_TRUE(closed_within(fd, 1));
  EXPECT_TRUE(closed_within(idle.front(), 1)) << "over 256: the oldest goes";
  EXPECT_FALSE(closed_within(idle.back(), 0.1));
  EXPECT_TRUE(closed_within(idle.back(), 5.5)) << "silent for five seconds";
  EXPECT_TRUE(closed_within(slow, 1)) << "half a header in five seconds";
  EXPECT_EQ(to_text(failure_within(*ranks[0], 0)), "nothing");
  for (const auto& fds : {idle, loud}) std::for_each(fds.begin(), fds.end(), close);
  close(slow);
  for (const auto& one : ranks) one->leave();
}

size_t entries(const char* directory) {
  const std::filesystem::directory_iterator all(directory);
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

TEST(BootstrapTest, FiftyCommunicatorsLeakNoDescriptorAndNoThread) {
  for (const auto& one : join_all(make_unique_id(local_config()), 3)) one->leave();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const size_t fds = entries("/proc/self/fd");
  const size_t threads = entries("/proc/self/task");
  for (int i = 0; i < 50; ++i) {
    Ranks ranks = join_all(make_unique_id(local_config()), 3);
    if (i % 2 == 0) {
      for (const auto& one : ranks) one->leave();
    }
  }
  const auto start = Clock::now();  // the server closes its ends a little later
  while (entries("/proc/self/fd") > fds && seconds_since(start) < 2) std::this_thread::yield();
  EXPECT_LE(entries("/proc/self/fd"), fds);
  EXPECT_LE(entries("/proc/self/task"), threads);
}

}  // namespace
}  // namespace slimccl::runtime::testing_support
