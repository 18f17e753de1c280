// Deaths, farewells and aborts, as the other ranks learn of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "bootstrap_support.h"

namespace slimccl::runtime::testing_support {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// Joins, says "+", and stays until killed.
std::function<void(const Process::Say&)> member(const ncclUniqueId& id, int ranks, int rank) {
  return [=](const Process::Say& say) {
    const auto bootstrap = Bootstrap::join(id, ranks, rank, 10);
    say("+");
    pause();
  };
}

// Joins, says "+", then what it learns within five seconds, and how long that took it in ms.
std::function<void(const Process::Say&)> witness(const ncclUniqueId& id, int ranks, int rank) {
  return [=](const Process::Say& say) {
    const auto bootstrap = Bootstrap::join(id, ranks, rank, 10);
    say("+");
    say(to_text(failure_within(*bootstrap, 5)));
  };
}

TEST(DeathTest, AKilledProcessIsToldToAllWithinASecond) {
  const ncclUniqueId id = make_unique_id(local_config());
  Process victim(member(id, 4, 1));
  Process second(witness(id, 4, 2));
  Process third(witness(id, 4, 3));
  const auto self = Bootstrap::join(id, 4, 0, 10);
  EXPECT_EQ(victim.hear(1) + second.hear(1) + third.hear(1), "+++");
  const auto start = Clock::now();
  victim.kill();
  const auto failure = failure_within(*self, 5);
  const std::string expected = to_text(failure);
  EXPECT_THAT(expected, StartsWith("1: process died (connection closed)"));
  EXPECT_THAT(expected, HasSubstr(concat(":", victim.pid())));
  EXPECT_EQ(second.hear_all(), expected);
  EXPECT_EQ(third.hear_all(), expected);
  EXPECT_LT(seconds_since(start), 1);
  EXPECT_EQ(to_text(self->check()), expected) << "again and again";
  EXPECT_THAT(outcome([&] { (void)self->all_gather({}, 5); }),
              StartsWith("6: rank 1: process died (connection closed)"));
}

TEST(DeathTest, AProcessWhoseChildrenLiveOnIsDeadAllTheSame) {
  const ncclUniqueId id = make_unique_id(local_config());
  Process victim([&](const Process::Say& say) {
    const auto bootstrap = Bootstrap::join(id, 2, 1, 10);
    const pid_t child = fork();  // such as a data loader's worker
    if (child == 0) {
      alarm(20);
      pause();
    }
    say(concat("+", child, ";"));
    pause();
  });
  const auto self = Bootstrap::join(id, 2, 0, 10);
  std::string heard;
  while (!heard.ends_with(";")) heard += victim.hear(1);
  victim.kill();
  EXPECT_THAT(to_text(failure_within(*self, 1)), StartsWith("1: process died"));
  kill(std::stoi(heard.substr(1)), SIGKILL);
}

TEST(DeathTest, DuringSetUpItIsToldAtOnce) {
  const ncclUniqueId id = make_unique_id(local_config());
  Process victim([&](const Process::Say& say) {
    say("+");
    (void)Bootstrap::join(id, 3, 1, 10);
  });
  EXPECT_EQ(victim.hear(1), "+");
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    victim.kill();
  });
  const auto start = Clock::now();
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(id, 3, 0, 10); }),
              StartsWith("6: rank 1: process died (connection closed)"));
  EXPECT_LT(seconds_since(start), 1);
  killer.join();
}

TEST(DeathTest, DuringAnExchangeItIsNamed) {
  const ncclUniqueId id = make_unique_id(local_config());
  Process victim(member(id, 2, 1));
  const auto self = Bootstrap::join(id, 2, 0, 10);
  EXPECT_EQ(victim.hear(1), "+");
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    victim.kill();
  });
  EXPECT_THAT(outcome([&] { (void)self->all_gather(bytes_of("x"), 10); }),
              StartsWith("6: rank 1: process died"));
  killer.join();
}

// The process of the rendezvous: joins as `rank` (if any), then does `end`.
std::function<void(const Process::Say&)> host(int ranks, int rank,
                                              const std::function<void(Bootstrap*)>& end) {
  return [=](const Process::Say& say) {
    const ncclUniqueId id = make_unique_id(local_config());
    say(id_text(id));
    std::unique_ptr<Bootstrap> bootstrap;
    if (rank >= 0) bootstrap = Bootstrap::join(id, ranks, rank, 10);
    end(bootstrap.get());
  };
}

TEST(HostTest, KilledWithARankIsThatRanksDeath) {
  Process server(host(3, 1, [](Bootstrap*) { pause(); }));
  const ncclUniqueId id = server.hear_id();
  Process other(witness(id, 3, 2));
  const auto self = Bootstrap::join(id, 3, 0, 10);
  EXPECT_EQ(other.hear(1), "+");
  server.kill();
  EXPECT_THAT(to_text(failure_within(*self, 1)), StartsWith("1: process died (connection closed)"));
  EXPECT_THAT(other.hear_all(), StartsWith("1: process died (connection closed)"));
}

TEST(HostTest, KilledWithoutARankIsNobodysDeath) {
  Process server(host(2, -1, [](Bootstrap*) { pause(); }));
  const Ranks ranks = join_all(server.hear_id(), 2);
  server.kill();
  EXPECT_EQ(to_text(failure_within(*ranks[0], 0.3)), "nothing");
  pollfd entry{ranks[0]->wait_fd(), POLLIN, 0};
  EXPECT_EQ(poll(&entry, 1, 0), 0) << "who waits on it must not spin";
  EXPECT_THAT(outcome([&] { (void)ranks[0]->all_gather({}, 1); }), HasSubstr("is gone"));
  ranks[0]->report({1, "seen by the transport"});
  EXPECT_EQ(to_text(ranks[0]->check()), "1: seen by the transport");
}

TEST(HostTest, KilledDuringSetUpIsSaid) {
  Process server(host(2, -1, [](Bootstrap*) { pause(); }));
  const ncclUniqueId id = server.hear_id();
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    server.kill();
  });
  EXPECT_THAT(outcome([&] { (void)Bootstrap::join(id, 2, 0, 10); }),
              testing::AllOf(StartsWith("2: "), HasSubstr("ended before all ranks had come")));
  killer.join();
}

TEST(HostTest, LeavingAndThenEndingIsSilent) {
  const std::function<void(Bootstrap*)> ends[] = {[](Bootstrap* bootstrap) {
                                                    bootstrap->leave();
                                                    _exit(0);
                                                  },
                                                  [](Bootstrap* bootstrap) {
                                                    bootstrap->leave();
                                                    std::exit(0);
                                                  },
                                                  [](Bootstrap* bootstrap) {
                                                    bootstrap->leave();
                                                    raise(SIGKILL);
                                                  }};
  for (const auto& end : ends) {
    Process server(host(3, 0, end));
    const ncclUniqueId id = server.hear_id();
    Process other(member(id, 3, 2));
    const auto self = Bootstrap::join(id, 3, 1, 10);
    EXPECT_EQ(other.hear(1), "+");
    server.wait();
    EXPECT_EQ(to_text(failure_within(*self, 0.2)), "nothing");
  }
}

TEST(HostTest, EndingWithoutLeavingIsADeath) {
  Process server(host(2, 0, [](Bootstrap*) { std::exit(0); }));
  const auto self = Bootstrap::join(server.hear_id(), 2, 1, 10);
  EXPECT_THAT(to_text(failure_within(*self, 2)), StartsWith("0: process died"));
  EXPECT_TRUE(WIFEXITED(server.wait()));
}

TEST(HostTest, AbortingAndThenEndingIsAnAbort) {
  Process server(host(2, 0, [](Bootstrap* bootstrap) {
    bootstrap->abort("enough");
    _exit(0);
  }));
  const auto self = Bootstrap::join(server.hear_id(), 2, 1, 10);
  EXPECT_EQ(to_text(failure_within(*self, 1)), "0: rank 0 aborted: enough");
}

TEST(HostTest, AForkedChildOfItEndsAndMayServeItself) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the one cannot start threads in a forked child, the other misses their stacks";
#endif
  const ncclUniqueId id = make_unique_id(local_config());
  Process child([&](const Process::Say& say) {
    Ranks ranks = join_all(make_unique_id(local_config()), 2);
    for (const auto& one : ranks) one->leave();
    say("served");
    ranks.clear();
    std::exit(7);
  });
  EXPECT_EQ(child.hear_all(), "served");
  const int status = child.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
  Process idle([](const Process::Say&) { std::exit(8); });
  EXPECT_EQ(WEXITSTATUS(idle.wait()), 8);
  for (const auto& one : join_all(id, 2)) one->leave();
}

TEST(FarewellTest, LeavingAndThenEndingIsSilent) {
  const ncclUniqueId id = make_unique_id(local_config());
  Process other([&](const Process::Say&) { Bootstrap::join(id, 2, 1, 10)->leave(); });
  const auto self = Bootstrap::join(id, 2, 0, 10);
  other.wait();
  EXPECT_EQ(to_text(failure_within(*self, 0.2)), "nothing");
  EXPECT_THAT(outcome([&] { (void)self->all_gather({}, 5); }),
              StartsWith("6: rank 1: left the communicator"));
}

TEST(FarewellTest, ClosingWithoutAWordIsADeath) {
  Ranks ranks = join_all(make_unique_id(local_config()), 2);
  ranks[1].reset();
  EXPECT_THAT(to_text(failure_within(*ranks[0], 1)), StartsWith("1: process died"));
}

TEST(FarewellTest, WaitersOfOneWhoLeftDoNotSpin) {
  const Ranks ranks = join_all(make_unique_id(local_config()), 2);
  ranks[0]->leave();
  pollfd entry{ranks[0]->wait_fd(), POLLIN, 0};
  EXPECT_EQ(poll(&entry, 1, 50), 0);
  EXPECT_EQ(to_text(ranks[0]->check()), "nothing");
  EXPECT_THAT(outcome([&] { (void)ranks[0]->all_gather({}, 1); }), StartsWith("5: "));
}

TEST(FarewellTest, LeavingDuringAnExchangeFailsIt) {
  const Ranks ranks = join_all(make_unique_id(local_config()), 2);
  std::thread leaver([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    ranks[1]->leave();
  });
  EXPECT_THAT(outcome([&] { (void)ranks[0]->all_gather({}, 5); }),
              StartsWith("6: rank 1: left the communicator during"));
  leaver.join();
}

TEST(ReportTest, ReachesAllAndOnlyTheFirstCounts) {
  const Ranks ranks = join_all(make_unique_id(local_config()), 4);
  ranks[2]->report({1, "does not answer"});
  for (const auto& one : ranks) EXPECT_EQ(to_text(failure_within(*one, 1)), "1: does not answer");
  ranks[3]->report({0, "neither does this"});
  ranks[0]->abort("too late");
  for (const auto& one : ranks) EXPECT_EQ(to_text(failure_within(*one, 0)), "1: does not answer");
}

TEST(ReportTest, AbortReachesAll) {
  const Ranks ranks = join_all(make_unique_id(local_config()), 3);
  ranks[1]->abort("out of memory");
  for (const auto& one : ranks) {
    EXPECT_EQ(to_text(failure_within(*one, 1)), "1: rank 1 aborted: out of memory");
  }
}

}  // namespace
}  // namespace slimccl::runtime::testing_support
