// A set-up that its own process gives up: how soon, and what the others hear.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "bootstrap_support.h"
#include "runtime/rendezvous.h"

namespace slimccl::runtime::testing_support {
namespace {

using testing::StartsWith;

constexpr const char* kSaid =
    "5: this communicator was aborted by ncclCommAbort while it was being set up";
// As the others hear it, from rank 0.
constexpr const char* kHeard =
    "6: rank 0 aborted: its process called ncclCommAbort while it was being set up";

// Runs body(flag), sets the flag after so long, and expects body to end soon after.
void expect_cancelled(double after_s, const std::function<void(const std::atomic<bool>*)>& body) {
  std::atomic<bool> flag{false};
  Clock::time_point set;
  std::thread setter([&] {
    std::this_thread::sleep_for(std::chrono::duration<double>(after_s));
    set = Clock::now();
    flag = true;
  });
  const std::string said = outcome([&] { body(&flag); });
  const auto end = Clock::now();
  setter.join();
  EXPECT_EQ(said, kSaid);
  EXPECT_GE(end, set);
  const double took_s = std::chrono::duration<double>(end - set).count();
  EXPECT_LT(took_s, 0.1 + 0.2) << "the 0.2 are for a busy machine";
  testing::Test::RecordProperty("took_ms", static_cast<int>(took_s * 1000));
}

TEST(CancelTest, WhileOthersAreStillToCome) {
  const ncclUniqueId plain = make_unique_id(local_config());
  const ncclUniqueId family = make_family_id(local_config());
  for (const auto& id : {plain, branch_of(family, 1)}) {
    std::string heard;
    Clock::time_point heard_at;
    std::thread other([&] {
      heard = outcome([&] { (void)Bootstrap::join(id, 3, 1, 20); });
      heard_at = Clock::now();
    });
    expect_cancelled(0.1, [&](auto* cancel) { (void)Bootstrap::join(id, 3, 0, 20, cancel); });
    const auto end = Clock::now();
    other.join();
    EXPECT_EQ(heard, kHeard);
    EXPECT_LT(std::chrono::duration<double>(heard_at - end).count(), 0.5);
    EXPECT_EQ(outcome([&] { (void)Bootstrap::join(id, 3, 2, 20); }), kHeard) << "it came later";
  }
  // All know of it, so the branch may be met again.
  for (const auto& one : join_all(branch_of(family, 1), 3)) one->leave();
  withdraw_id(family);
}

TEST(CancelTest, BeforeItBegan) {
  const ncclUniqueId id = make_unique_id(local_config());
  expect_cancelled(0, [&](auto* cancel) {
    while (!*cancel) std::this_thread::yield();
    (void)Bootstrap::join(id, 2, 0, 20, cancel);
  });
  EXPECT_EQ(outcome([&] { (void)Bootstrap::join(id, 2, 1, 20); }), kHeard);
}

TEST(CancelTest, DuringAnExchangeAndEverAfter) {
  const ncclUniqueId id = make_unique_id(local_config());
  std::unique_ptr<Bootstrap> other;
  std::thread joiner([&] { other = Bootstrap::join(id, 2, 1, 10); });
  std::atomic<bool> flag{false};
  const auto self = Bootstrap::join(id, 2, 0, 10, &flag);
  joiner.join();
  expect_cancelled(0.1, [&](auto* cancel) {
    std::thread setter([&] {
      while (!*cancel) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      flag = true;
    });
    const std::string said = outcome([&] { (void)self->all_gather(bytes_of("x"), 20); });
    setter.join();
    slimccl::check(said == kSaid, ncclInternalError, said);
    throw Error(ncclInvalidUsage, said.substr(3));
  });
  EXPECT_EQ(concat("6: ", failure_within(*other, 1).value_or(RankFailure{-1, "nothing"}).reason),
            kHeard);
  EXPECT_EQ(outcome([&] { (void)other->all_gather({}, 20); }), kHeard);
  EXPECT_EQ(outcome([&] { (void)self->all_gather(bytes_of("x"), 20); }), kSaid);
  EXPECT_THAT(to_text(self->check()), StartsWith("0: rank 0 aborted: "));
  self->leave();
}

TEST(CancelTest, BetweenTwoExchanges) {
  const ncclUniqueId id = make_unique_id(local_config());
  std::atomic<bool> flag{false};
  std::vector<std::string> said = on_threads(iota(2), [&](int rank) {
    const auto self = Bootstrap::join(id, 2, rank, 10, rank == 0 ? &flag : nullptr);
    (void)self->all_gather({}, 10);
    if (rank == 0) flag = true;
    (void)self->all_gather({}, 10);
  });
  EXPECT_EQ(said[0], kSaid);
  EXPECT_EQ(said[1], kHeard);
}

TEST(CancelTest, WhileNobodyListens) {
  Process maker([](const Process::Say& say) { say(id_text(make_unique_id(local_config()))); });
  const ncclUniqueId id = maker.hear_id();
  maker.wait();
  expect_cancelled(0.25, [&](auto* cancel) { (void)Bootstrap::join(id, 2, 0, 20, cancel); });
}

TEST(CancelTest, WhileTheServerIsStopped) {
  Process server([](const Process::Say& say) {
    say(id_text(make_unique_id(local_config())));
    pause();
  });
  const ncclUniqueId id = server.hear_id();
  kill(server.pid(), SIGSTOP);
  int status = 0;  // it may still read a hello until it has stopped
  ASSERT_EQ(waitpid(server.pid(), &status, WUNTRACED), server.pid());
  ASSERT_TRUE(WIFSTOPPED(status));
  expect_cancelled(0.2, [&](auto* cancel) { (void)Bootstrap::join(id, 2, 0, 20, cancel); });
  kill(server.pid(), SIGCONT);
  EXPECT_EQ(outcome([&] { (void)Bootstrap::join(id, 2, 1, 20); }), kHeard) << "it was sent, though";
}

// A listener whose queue is full: connections to it neither succeed nor fail.
TEST(CancelTest, WhileItConnects) {
  wire::Endpoint endpoint = wire::Endpoint::of("127.0.0.1", 0);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(bind(listener, endpoint.raw(), endpoint.bytes), 0);
  ASSERT_EQ(listen(listener, 0), 0);
  socklen_t bytes = sizeof endpoint.storage;
  ASSERT_EQ(getsockname(listener, endpoint.raw(), &bytes), 0);
  const ncclUniqueId id = wire::to_unique_id({endpoint, 1, wire::random_secret()});
  std::vector<int> fillers;
  for (int i = 0; i < 4; ++i) {
    fillers.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    (void)connect(fillers.back(), endpoint.raw(), endpoint.bytes);
  }
  expect_cancelled(0.2, [&](auto* cancel) { (void)Bootstrap::join(id, 2, 0, 20, cancel); });
  for (const int fd : fillers) close(fd);
  close(listener);
}

TEST(CancelTest, AFlagThatIsNeverSetChangesNothing) {
  const ncclUniqueId id = make_unique_id(local_config());
  const std::atomic<bool> flag{false};
  const auto said = on_threads(
      iota(3), [&](int rank) { const auto self = Bootstrap::join(id, 4, rank, 0.3, &flag); });
  EXPECT_THAT(said, testing::Each(StartsWith("6: rank 3 of 4 did not come within 0.3 s")));
}

}  // namespace
}  // namespace slimccl::runtime::testing_support
