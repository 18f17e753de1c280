#include "transport/loopback/loopback.h"

#include "transport/conformance.h"
#include "transport/makers.h"

namespace slimccl::transport {
namespace {

INSTANTIATE_TEST_SUITE_P(Loopback, Conformance,
                         testing::Combine(testing::Values(loopback_maker()), testing::Bool()),
                         conformance_name);

TEST(Loopback, ARankIsTakenOnce) {
  const auto hub = make_loopback_hub(2);
  const auto first = make_loopback(hub, 0);
  EXPECT_THROW((void)make_loopback(hub, 0), Error);
  EXPECT_THROW((void)make_loopback(hub, 2), Error);
  EXPECT_THROW((void)make_loopback_hub(0), Error);
}

TEST(Loopback, MessagesMayExceedTwoGiB) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's shadow of 4 GiB is too much for small machines";
#endif
  constexpr size_t kBytes = (size_t{1} << 31) + 5;
  const std::unique_ptr<std::byte, decltype(&free)> from(static_cast<std::byte*>(calloc(kBytes, 1)),
                                                         free);
  const std::unique_ptr<std::byte, decltype(&free)> into(static_cast<std::byte*>(calloc(kBytes, 1)),
                                                         free);
  from.get()[kBytes - 1] = std::byte{42};
  const auto hub = make_loopback_hub(2);
  const auto sender = make_loopback(hub, 0), receiver = make_loopback(hub, 1);
  const Ticket sent = sender->send(1, 1, {from.get(), kBytes});
  const Ticket received = receiver->recv(0, 1, {into.get(), kBytes});
  EXPECT_TRUE(receiver->progress());
  EXPECT_EQ(sender->poll(sent), Progress::kDone);
  EXPECT_EQ(receiver->poll(received), Progress::kDone);
  EXPECT_EQ(into.get()[kBytes - 1], std::byte{42});
}

}  // namespace
}  // namespace slimccl::transport
