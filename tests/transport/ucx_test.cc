#include "transport/conformance.h"
#include "transport/makers.h"

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

}  // namespace
}  // namespace slimccl::transport
