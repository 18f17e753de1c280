// What every transport must do. A test file instantiates Conformance for its makers, with all ranks
// on one thread and with a thread each, and ForkedConformance for the makers whose ranks can be
// processes.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <tuple>

#include "base/error.h"
#include "transport/world.h"

namespace slimccl::transport {

constexpr size_t kMiB = size_t{1} << 20;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kBig = 8 * kMiB;
#else
constexpr size_t kBig = 64 * kMiB;
#endif

class Conformance : public testing::TestWithParam<std::tuple<Maker, bool>> {
 protected:
  [[nodiscard]] World world(int ranks) const {
    return {std::get<0>(GetParam()), ranks, std::get<1>(GetParam())};
  }
};

inline std::string conformance_name(const testing::TestParamInfo<std::tuple<Maker, bool>>& info) {
  return std::get<0>(info.param).name + (std::get<1>(info.param) ? "_threads" : "_one_thread");
}

TEST_P(Conformance, DeliversEverySize) {
  World world = this->world(2);
  for (const size_t bytes :
       {size_t{0}, size_t{1}, size_t{15}, size_t{4097}, kMiB, 3 * kMiB + 7, kBig}) {
    SCOPED_TRACE(bytes);
    world.deliver([&](Party& party) {
      party.recv(1 - party.rank(), 7, bytes);
      party.send(1 - party.rank(), 7, bytes);
    });
    if (HasFailure()) return;
  }
}

TEST_P(Conformance, DeliversManySmallMessages) {
  World world = this->world(3);
  world.deliver([&](Party& party) {
    for (uint64_t tag = 0; tag < 1000; ++tag) {
      for (int peer = 0; peer < world.ranks(); ++peer) {
        if (peer == party.rank()) continue;
        party.send(peer, tag << 32, tag % 67);
        party.recv(peer, tag << 32, tag % 67);
      }
    }
  });
}

TEST_P(Conformance, PostingOrderDoesNotMatter) {
  World world = this->world(2);
  for (uint32_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(seed);
    world.deliver([&](Party& party) {
      std::vector<int> order(60);
      for (int i = 0; i < 60; ++i) order[static_cast<size_t>(i)] = i;
      std::shuffle(order.begin(), order.end(),
                   std::mt19937(seed * 2 + static_cast<uint32_t>(party.rank())));
      for (const int i : order) {
        const auto tag = static_cast<uint64_t>(i / 2);
        const size_t bytes = (tag * 7919) % (300 * 1024);
        i % 2 ? party.send(1 - party.rank(), tag, bytes) : party.recv(1 - party.rank(), tag, bytes);
      }
    });
    if (HasFailure()) return;
  }
}

TEST_P(Conformance, EarlyMessagesWaitAndBlockNothing) {
  World world = this->world(2);
  Party &sender = world.at(0), &receiver = world.at(1);
  for (uint64_t tag = 0; tag < 8; ++tag) sender.send(1, tag, tag % 2 ? 5 * kMiB + tag : 100 + tag);
  sender.send(1, 99, 64);  // behind all the early ones, and received first
  receiver.recv(0, 99, 64);
  ASSERT_TRUE(run_until(
      world.all(), [&] { return receiver.settled(); }, 10));
  for (uint64_t tag = 8; tag-- > 0;) receiver.recv(0, tag, tag % 2 ? 5 * kMiB + tag : 100 + tag);
  ASSERT_TRUE(run_until(
      world.all(), [&] { return receiver.settled() && sender.settled(); }, 10));
  sender.expect_delivered();
  receiver.expect_delivered();
}

TEST_P(Conformance, AReceiveMayBePostedWhileItsMessageArrives) {
  World world = this->world(2);
  world.at(0).send(1, 1, 16 * kMiB);
  for (int step = 0; step < 6; ++step) {
    for (Party* party : world.all()) party->step();
  }
  world.at(1).recv(0, 1, 16 * kMiB);
  const auto settled = [&] { return world.at(0).settled() && world.at(1).settled(); };
  ASSERT_TRUE(run_until(world.all(), settled, 10));
  world.at(1).expect_delivered();
}

TEST_P(Conformance, AllToAllWithOneToFiveRanks) {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    SCOPED_TRACE(ranks);
    World world = this->world(ranks);
    for (uint64_t repeat = 0; repeat < 3; ++repeat) {
      world.deliver([&](Party& party) {
        for (int peer = 0; peer < ranks; ++peer) {
          if (peer == party.rank()) continue;
          for (uint64_t tag = 0; tag < 4; ++tag) {
            const auto bytes =
                static_cast<size_t>(std::max(peer, party.rank())) * 50'000 + (tag << 17);
            party.recv(peer, tag, bytes);
            party.send(peer, tag, bytes);
          }
        }
      });
      if (HasFailure()) return;
    }
  }
}

TEST_P(Conformance, SizeMismatchFailsTheReceiveAndSaysSo) {
  for (const bool early : {false, true}) {
    for (const auto& [sent, expected] :
         {std::pair<size_t, size_t>{128, 64}, {64, 128}, {0, 1}, {3 * kMiB, kMiB}}) {
      SCOPED_TRACE(testing::Message()
                   << sent << " sent, " << expected << " expected, early " << early);
      World world = this->world(2);
      if (!early) world.at(1).recv(0, 5, expected);
      world.at(0).send(1, 5, sent);
      if (early) {
        for (int step = 0; step < 50; ++step) {
          for (Party* party : world.all()) party->step();
        }
        world.at(1).recv(0, 5, expected);
      }
      ASSERT_TRUE(run_until(
          world.all(), [&] { return world.at(1).settled(); }, 10));
      EXPECT_EQ(world.at(1).messages[0].state, Progress::kFailed);
      const auto& failure = world.at(1).transport().failure();
      ASSERT_TRUE(failure.has_value());
      EXPECT_EQ(failure->rank, 0);
      EXPECT_THAT(failure->reason,
                  testing::HasSubstr(concat("sent ", sent, " bytes where ", expected)));
      EXPECT_TRUE(std::ranges::all_of(world.at(1).messages[0].data,
                                      [](std::byte b) { return b == std::byte{0}; }));
    }
  }
}

TEST_P(Conformance, UnknownPeersThrow) {
  World world = this->world(2);
  for (const int peer : {-1, 0, 2, 1'000'000}) {
    SCOPED_TRACE(peer);
    EXPECT_THROW((void)world.at(0).transport().send(peer, 1, {}), Error);
    EXPECT_THROW((void)world.at(0).transport().recv(peer, 1, {}), Error);
  }
}

TEST_P(Conformance, DeadTicketsHaveFailed) {
  World world = this->world(2);
  const Ticket ticket = world.at(0).send(1, 1, 10).ticket;
  world.at(1).recv(0, 1, 10);
  ASSERT_TRUE(run_until(
      world.all(), [&] { return world.at(0).settled() && world.at(1).settled(); }, 10));
  EXPECT_EQ(world.at(0).transport().poll(ticket), Progress::kFailed);
  EXPECT_EQ(world.at(0).transport().poll(0xdead'beef'0000'1234), Progress::kFailed);
}

TEST_P(Conformance, AbortFreesBuffersAndTellsThePeer) {
  World world = this->world(3);
  Party &aborter = world.at(0), &peer = world.at(1);
  aborter.recv(1, 1, kMiB);
  aborter.send(1, 2, 48 * kMiB);
  aborter.send(2, 3, 100);
  peer.recv(0, 4, kMiB);
  for (int step = 0; step < 5; ++step) {
    for (Party* party : world.all()) party->step();
  }
  world.while_others_go_on(aborter, [&] { aborter.transport().abort("the test says so"); });
  for (auto& message : aborter.messages)
    std::vector<std::byte>().swap(message.data);  // a sanitizer watches
  ASSERT_TRUE(run_until(
      world.all(), [&] { return aborter.settled() && peer.settled(); }, 10));
  EXPECT_EQ(aborter.messages[0].state, Progress::kFailed);  // the sends may have been done before
  EXPECT_EQ(peer.messages[0].state, Progress::kFailed);
  ASSERT_TRUE(peer.transport().failure().has_value());
  EXPECT_EQ(peer.transport().failure()->rank, 0);
  EXPECT_THAT(peer.transport().failure()->reason, testing::HasSubstr("rank 0"));
  aborter.transport().abort("again");
  EXPECT_EQ(aborter.transport().poll(aborter.transport().send(1, 9, {})), Progress::kFailed);
  EXPECT_EQ(aborter.transport().poll(aborter.transport().recv(1, 9, {})), Progress::kFailed);
}

TEST_P(Conformance, DestructionFailsThePeersReceives) {
  World world = this->world(2);
  world.at(0).recv(1, 1, 100);
  for (Party* party : world.all()) party->step();
  world.destroy(1);
  ASSERT_TRUE(run_until(
      {&world.at(0)}, [&] { return world.at(0).settled(); }, 10));
  EXPECT_EQ(world.at(0).messages[0].state, Progress::kFailed);
  ASSERT_TRUE(world.at(0).transport().failure().has_value());
  EXPECT_EQ(world.at(0).transport().failure()->rank, 1);
}

TEST_P(Conformance, WhatADestroyedSenderHadSentArrives) {
  World world = this->world(2);
  world.at(0).send(1, 1, 100);
  world.at(0).send(1, 2, 70'000);
  for (int step = 0; step < 20; ++step) {
    for (Party* party : world.all()) party->step();
  }
  world.destroy(0);
  world.at(1).recv(0, 2, 70'000);
  world.at(1).recv(0, 1, 100);
  ASSERT_TRUE(run_until(
      {&world.at(1)}, [&] { return world.at(1).settled(); }, 10));
  world.at(1).expect_delivered();
  EXPECT_FALSE(world.at(1).transport().failure().has_value());
}

TEST_P(Conformance, DestructionWithUnreadEarlyMessages) {
  World world = this->world(2);
  for (uint64_t tag = 0; tag < 20; ++tag) world.at(0).send(1, tag, tag * 10'000);
  world.at(1).recv(0, 1000, kMiB);
  for (int step = 0; step < 50; ++step) {
    for (Party* party : world.all()) party->step();
  }
  world.destroy(1);
  ASSERT_TRUE(run_until(
      {&world.at(0)}, [&] { return world.at(0).settled(); }, 10));
}

// Each rank does nothing but sleep until wait_fd() says there is something: a lost wake-up shows as
// a poll that ends by its time-out.
TEST_P(Conformance, NoWakeUpIsLost) {
  if (!std::get<1>(GetParam())) GTEST_SKIP() << "needs a thread per rank";
  constexpr uint64_t kRounds = 1000;
  World world = this->world(2);
  std::atomic<int> lost = 0;
  const auto sleep_until_settled = [&](Party& party) {
    while (!party.settled() && lost == 0) {
      if (party.step() || !party.transport().arm()) continue;
      pollfd fd{party.transport().wait_fd(), POLLIN, 0};
      if (poll(&fd, 1, 5000) == 0) ++lost;
    }
    party.messages.clear();
  };
  std::vector<std::thread> threads;
  for (Party* party : world.all()) {
    threads.emplace_back([&, party] {
      for (uint64_t i = 0; i < kRounds && lost == 0; ++i) {
        const size_t bytes = i % 100 == 0 ? 3 * kMiB : i % 512;
        if (party->rank() == 0) party->send(1, i, bytes);
        party->recv(1 - party->rank(), i, bytes);
        if (party->rank() == 1) sleep_until_settled(*party);
        if (party->rank() == 1) party->send(0, i, bytes);
        sleep_until_settled(*party);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(lost, 0);
}

class ForkedConformance : public testing::TestWithParam<Maker> {};

inline std::string forked_name(const testing::TestParamInfo<Maker>& info) {
  return info.param.name + "_processes";
}

TEST_P(ForkedConformance, AllToAll) {
  constexpr int kRanks = 4;
  const auto ends = run_forked(
      GetParam(), kRanks,
      [](Party& party, Gather& gather) {
        for (uint64_t repeat = 0; repeat < 3; ++repeat) {
          for (int peer = 0; peer < kRanks; ++peer) {
            if (peer == party.rank()) continue;
            for (uint64_t tag = 0; tag < 6; ++tag) {
              party.send(peer, tag, (tag << 19) + tag);
              party.recv(peer, tag, (tag << 19) + tag);
            }
          }
          EXPECT_TRUE(run_until(
              {&party}, [&] { return party.settled(); }, 15));
          party.expect_delivered();
        }
        party.destroy();
        gather.barrier(party.rank());
      },
      30);
  EXPECT_THAT(ends, testing::Each(0));
}

TEST_P(ForkedConformance, AKilledPeerIsNamedAndNothingCrashes) {
  constexpr size_t kBytes = 64 * kMiB;
  for (int repeat = 0; repeat < 5; ++repeat) {
    SCOPED_TRACE(repeat);
    const auto ends = run_forked(
        GetParam(), 3,
        [&](Party& party, Gather& gather) {
          for (int peer = 0; peer < 3; ++peer) {  // all are connected
            if (peer == party.rank()) continue;
            party.send(peer, 1, 10);
            party.recv(peer, 1, 10);
          }
          EXPECT_TRUE(run_until(
              {&party}, [&] { return party.settled(); }, 10));
          party.expect_delivered();
          gather.barrier(party.rank());
          if (party.rank() != 2) {  // 2 is a bystander
            party.recv(1 - party.rank(), 2, kBytes);
            party.send(1 - party.rank(), 2, kBytes);
          }
          if (party.rank() != 1) party.recv(1, 3, 100);
          if (party.rank() == 1) {
            for (int step = 0; step <= repeat; ++step) party.step();
            gather.note_time();
            kill(getpid(), SIGKILL);
          }
          EXPECT_TRUE(run_until(
              {&party}, [&] { return party.settled(); }, 10));
          EXPECT_GT(gather.noted_time(), 0);  // it was not something else that ended them
          EXPECT_LT(now_s() - gather.noted_time(), 5);
          // The last is a message that was never sent. The big ones may have been through before
          // the death, but then they must be whole.
          EXPECT_EQ(party.messages.back().state, Progress::kFailed);
          std::erase_if(party.messages,
                        [](const auto& message) { return message.state == Progress::kFailed; });
          party.expect_delivered();
          EXPECT_TRUE(party.transport().failure().has_value());
          if (party.transport().failure()) {
            EXPECT_EQ(party.transport().failure()->rank, 1);
            EXPECT_THAT(party.transport().failure()->reason, testing::HasSubstr("rank 1"));
          }
          EXPECT_EQ(party.transport().poll(party.transport().send(1, 5, {})), Progress::kFailed);
          gather.meet(2);  // lest the first to abort be the failure that the second names
          party.transport().abort("a peer died");
          party.destroy();
        },
        25);
    EXPECT_THAT(ends, testing::ElementsAre(0, -SIGKILL, 0));
  }
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ForkedConformance);

}  // namespace slimccl::transport
