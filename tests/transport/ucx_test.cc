#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "transport/conformance.h"
#include "transport/makers.h"
#include "transport/ucx/endpoint.h"

namespace slimccl::transport {
namespace {

// First: children are forked before this process has used UCX, which does not survive a fork.
INSTANTIATE_TEST_SUITE_P(Ucx, ForkedConformance, testing::Values(ucx_maker()), forked_name);
INSTANTIATE_TEST_SUITE_P(Ucx, Conformance,
                         testing::Combine(testing::Values(ucx_maker()), testing::Bool()),
                         conformance_name);
INSTANTIATE_TEST_SUITE_P(UcxOneWorker, Conformance,
                         testing::Combine(testing::Values(ucx_maker(true)), testing::Values(false)),
                         conformance_name);

TEST(Ucx, TellsItsVersion) {
  EXPECT_THAT(ucx_version(), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
}

using Pair = std::vector<std::unique_ptr<Transport>>;

// One communicator of two ranks, each with the worker of its process.
Pair pair_of(const std::vector<std::shared_ptr<UcxWorker>>& workers) {
  std::vector<std::unique_ptr<UcxEndpoint>> endpoints;
  std::vector<std::vector<std::byte>> bytes;
  for (int rank = 0; rank < 2; ++rank) {
    endpoints.push_back(UcxEndpoint::create(workers[static_cast<size_t>(rank)], rank));
    bytes.push_back(endpoints.back()->address());
  }
  const std::vector<PeerAddress> addresses{{0, bytes[0]}, {1, bytes[1]}};
  Pair pair;
  for (const auto& endpoint : endpoints) pair.push_back(endpoint->connect(addresses));
  return pair;
}

// The connection is shared: one communicator's end is nothing to the other, however long the peer's
// process does nothing meanwhile.
TEST(Ucx, LeavingBesideAStoppedPeerHarmsNoOtherCommunicator) {
  const std::vector workers{UcxWorker::make({}), UcxWorker::make({})};
  Pair leaving = pair_of(workers), staying = pair_of(workers);
  std::vector<std::byte> nothing(1), into(5), from(5, std::byte{7});
  (void)leaving[0]->recv(1, 1, nothing);  // connects, with a greeting that rank 1 does not take
  const Ticket recv = staying[0]->recv(1, 2, into);
  leaving[0].reset();
  EXPECT_EQ(staying[0]->poll(recv), Progress::kPending);
  EXPECT_FALSE(staying[0]->failure().has_value()) << staying[0]->failure()->reason;

  const Ticket send = staying[1]->send(0, 2, from);
  Progress sent = Progress::kPending, received = Progress::kPending;
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while ((sent == Progress::kPending || received == Progress::kPending) &&
         std::chrono::steady_clock::now() < limit) {
    for (const auto& each : {leaving[1].get(), staying[0].get(), staying[1].get()})
      (void)each->progress();
    if (sent == Progress::kPending) sent = staying[1]->poll(send);
    if (received == Progress::kPending) received = staying[0]->poll(recv);
  }
  EXPECT_EQ(sent, Progress::kDone);
  EXPECT_EQ(received, Progress::kDone);
  EXPECT_EQ(into, from);
}

}  // namespace
}  // namespace slimccl::transport
