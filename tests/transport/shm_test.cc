#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "transport/conformance.h"
#include "transport/makers.h"

namespace slimccl::transport {
namespace {

INSTANTIATE_TEST_SUITE_P(Shm, Conformance,
                         testing::Combine(testing::Values(shm_maker()), testing::Bool()),
                         conformance_name);
INSTANTIATE_TEST_SUITE_P(ShmSmallRing, Conformance,
                         testing::Combine(testing::Values(shm_maker(16 << 10)),
                                          testing::Values(true)),
                         conformance_name);
INSTANTIATE_TEST_SUITE_P(Shm, ForkedConformance, testing::Values(shm_maker()), forked_name);

std::vector<std::string> our_files() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    const std::string name = entry.path().filename();
    if (name.find(concat("-test", getpid(), "-")) != std::string::npos) names.push_back(name);
  }
  return names;
}

TEST(Shm, AFullDirectoryIsAnErrorThatSaysWhatToDo) {
  const ShmOptions options{.unique = concat("test", getpid(), "-full"),
                           .ring_bytes = uint64_t{1} << 42};
  try {
    (void)ShmEndpoint::create(options, 0, {0, 1});
    FAIL() << "8 TiB fitted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ncclSystemError);
    EXPECT_THAT(error.what(), testing::HasSubstr("8796093034496 bytes"));
    EXPECT_THAT(error.what(), testing::HasSubstr("/dev/shm"));
    EXPECT_THAT(error.what(), testing::HasSubstr("--shm-size"));
  }
  EXPECT_THAT(our_files(), testing::IsEmpty());
}

TEST(Shm, NothingIsLeftOnceAllAreConnected) {
  World world(shm_maker(), 3, false);
  EXPECT_THAT(our_files(), testing::IsEmpty());
}

TEST(Shm, AnEndpointThatNeverConnectsRemovesItsFiles) {
  const ShmOptions options{.unique = concat("test", getpid(), "-alone")};
  {
    const auto endpoint = ShmEndpoint::create(options, 0, {0, 1});
    EXPECT_EQ(our_files().size(), 2u);
    EXPECT_THROW((void)ShmEndpoint::create(options, 0, {0, 1}), Error);
  }
  EXPECT_THAT(our_files(), testing::IsEmpty());
}

TEST(Shm, BadNamesAndAddressesAreRefused) {
  EXPECT_THROW((void)ShmEndpoint::create({.unique = ""}, 0, {0}), Error);
  EXPECT_THROW((void)ShmEndpoint::create({.unique = "a/b"}, 0, {0}), Error);
  const ShmOptions options{.unique = concat("test", getpid(), "-bad")};
  EXPECT_THROW((void)ShmEndpoint::create(options, 5, {0, 1}), Error);
  const auto endpoint = ShmEndpoint::create(options, 0, {0, 1});
  const PeerAddress empty{1, {}};
  EXPECT_THROW((void)endpoint->connect({&empty, 1}), Error);
  const auto own = endpoint->address();
  const PeerAddress wrong_rank{1, own};
  EXPECT_THROW((void)endpoint->connect({&wrong_rank, 1}), Error);
}

// The victim's small messages are whole in the ring when it dies; its big one is not.
TEST(Shm, WhatADeadPeerHadWrittenIsDelivered) {
  const auto ends = run_forked(
      shm_maker(), 2,
      [](Party& party, Gather& gather) {
        if (party.rank() == 1) {
          for (uint64_t tag = 0; tag < 10; ++tag) party.send(0, tag, 1000 + tag);
          party.send(0, 10, 8 * kMiB);
          for (int i = 0; i < 10; ++i) party.step();
          kill(getpid(), SIGKILL);
        }
        (void)gather;
        usleep(300'000);
        for (uint64_t tag = 0; tag < 11; ++tag)
          party.recv(1, tag, tag < 10 ? 1000 + tag : 8 * kMiB);
        EXPECT_TRUE(run_until(
            {&party}, [&] { return party.settled(); }, 5));
        EXPECT_EQ(party.messages.back().state, Progress::kFailed);
        ASSERT_TRUE(party.transport().failure().has_value());
        EXPECT_THAT(party.transport().failure()->reason,
                    testing::MatchesRegex("rank 1 \\(pid [0-9]+\\) died"));
        party.messages.pop_back();
        party.expect_delivered();
      },
      15);
  EXPECT_THAT(ends, testing::ElementsAre(0, -SIGKILL));
}

// Not a test of speed (machines differ) but a record of it.
TEST(Shm, RecordsItsSpeed) {
  const auto ends = run_forked(
      shm_maker(), 2,
      [](Party& party, Gather& gather) {
        for (const auto& [bytes, repeats] :
             {std::pair<size_t, uint64_t>{kMiB, 2000}, {64 * kMiB, 20}, {8, 5000}}) {
          std::vector<std::byte> data(bytes, std::byte{1});
          gather.barrier(party.rank());
          const double start = now_s();
          for (uint64_t i = 0; i < repeats; ++i) {
            const Ticket ticket = party.rank() ? party.transport().recv(0, i, data)
                                               : party.transport().send(1, i, data);
            const auto ended = [&] { return party.transport().poll(ticket) != Progress::kPending; };
            ASSERT_TRUE(run_until({&party}, ended, 10));
          }
          if (party.rank() != 1) continue;
          const double seconds = now_s() - start;
          printf("shm, one way, %zu bytes: %.2f GB/s, %.2f us each\n", bytes,
                 1e-9 * static_cast<double>(bytes * repeats) / seconds,
                 1e6 * seconds / static_cast<double>(repeats));
        }
        gather.barrier(party.rank());
      },
      60);
  EXPECT_THAT(ends, testing::Each(0));
}

}  // namespace
}  // namespace slimccl::transport
