#include "transport/flaky.h"

#include "transport/conformance.h"
#include "transport/makers.h"

namespace slimccl::transport {
namespace {

Maker flaky_maker(const Maker& inner, const FlakyOptions& options) {
  return {"flaky_" + inner.name, [=](int ranks) -> MakeRank {
            return [=, make = inner.begin(ranks)](Gather& gather, int rank, int count) {
              FlakyOptions own = options;
              own.seed += static_cast<uint64_t>(rank);
              return make_flaky(make(gather, rank, count), own);
            };
          }};
}

const FlakyOptions kDelays{.seed = 7, .max_delay = 9, .fail_operation = {}, .fail_peer = {}};

INSTANTIATE_TEST_SUITE_P(Flaky, Conformance,
                         testing::Combine(testing::Values(flaky_maker(loopback_maker(), kDelays),
                                                          flaky_maker(shm_maker(), kDelays),
                                                          flaky_maker(ucx_maker(), kDelays)),
                                          testing::Bool()),
                         conformance_name);

TEST(Flaky, TheChosenOperationFailsAndThePeerIsTold) {
  FlakyOptions options = kDelays;
  options.fail_operation = 5;
  const auto hub = make_loopback_hub(2);
  Party bad(0, make_flaky(make_loopback(hub, 0), options)), good(1, make_loopback(hub, 1));
  for (uint64_t tag = 0; tag < 8; ++tag) {
    bad.recv(1, tag, 10);
    good.recv(0, 100 + tag, 10);
  }
  ASSERT_TRUE(run_until(
      {&bad, &good}, [&] { return bad.settled() && good.settled(); }, 5));
  for (const auto& message : bad.messages) EXPECT_EQ(message.state, Progress::kFailed);
  ASSERT_TRUE(bad.transport().failure().has_value());
  EXPECT_THAT(bad.transport().failure()->reason, testing::HasSubstr("injection"));
  ASSERT_TRUE(good.transport().failure().has_value());
  EXPECT_EQ(good.transport().failure()->rank, 0);
}

TEST(Flaky, OperationsWithTheChosenPeerFail) {
  const auto hub = make_loopback_hub(3);
  const auto flaky = make_flaky(make_loopback(hub, 0), {.fail_operation = {}, .fail_peer = 2});
  const auto one = make_loopback(hub, 1), two = make_loopback(hub, 2);
  const std::vector<std::byte> data(10);
  const Ticket fine = flaky->send(1, 1, data);
  EXPECT_EQ(flaky->poll(fine), Progress::kPending);
  EXPECT_EQ(flaky->poll(flaky->send(2, 1, data)), Progress::kFailed);
  EXPECT_EQ(flaky->failure()->rank, 2);
}

}  // namespace
}  // namespace slimccl::transport
