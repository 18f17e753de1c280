// Point-to-point messages over loopback: order, sizes, and what is said when the ends differ.
#include "runtime/transfers.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>

#include "transport/loopback/loopback.h"

namespace slimccl::runtime {
namespace {

class Transfers : public ::testing::TestWithParam<bool> {
 protected:
  Transfers() {
    const auto hub = transport::make_loopback_hub(2);
    for (int rank = 0; rank < 2; ++rank) {
      routers_.push_back(std::make_unique<Router>(2));
      routers_.back()->add(transport::make_loopback(hub, rank), {0, 1});
      ranks_.push_back(
          std::make_unique<TransferExecutor>(topology_, rank, *routers_.back(), GetParam()));
    }
  }
  ~Transfers() override {
    for (size_t rank = 0; rank < 2; ++rank) {
      routers_[rank]->abort("the test ends");
      ranks_[rank]->drop();
    }
  }

  static Transfer send(int peer, const std::vector<int>& data) {
    return {Transfer::Kind::kSend,
            peer,
            reinterpret_cast<const std::byte*>(data.data()),
            nullptr,
            data.size() * sizeof(int),
            ncclInt32};
  }
  static Transfer recv(int peer, std::vector<int>& data) {
    return {Transfer::Kind::kRecv,     peer,     nullptr, reinterpret_cast<std::byte*>(data.data()),
            data.size() * sizeof(int), ncclInt32};
  }
  // Until both are idle, or one has something to complain of.
  bool run(double seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < end) {
      for (size_t rank = 0; rank < 2; ++rank) {
        routers_[rank]->progress();
        ranks_[rank]->progress();
        if (ranks_[rank]->failure() || !ranks_[rank]->mismatch().empty()) return false;
      }
      if (ranks_[0]->idle() && ranks_[1]->idle()) return true;
    }
    return false;
  }

  topology::Topology topology_ = topology::parse("2x1");
  std::vector<std::unique_ptr<Router>> routers_;
  std::vector<std::unique_ptr<TransferExecutor>> ranks_;
};

TEST_P(Transfers, TheNthSendMeetsTheNthReceiveWhateverTheGroups) {
  const std::vector<int> one{1, 2, 3}, two{4}, three{};
  std::vector<int> first(3), second(1), third;
  ranks_[0]->start({send(1, one), send(1, two)});
  ranks_[1]->start({recv(0, first)});
  (void)run(0.05);  // where sends are not buffered, the second still waits for its receive
  ASSERT_TRUE(ranks_[1]->idle());
  ranks_[1]->start({recv(0, second), recv(0, third)});
  (void)run(0.05);
  ASSERT_TRUE(ranks_[0]->idle());
  ranks_[0]->start({send(1, three)});
  ASSERT_TRUE(run(10));
  EXPECT_EQ(first, one);
  EXPECT_EQ(second, two);
  EXPECT_EQ(ranks_[0]->sent().between_nodes, 4 * sizeof(int));
}

TEST_P(Transfers, BothWaysAtOnceAndToOneself) {
  std::vector<int> mine(100'000), theirs(100'000), got(100'000), back(100'000), copy(100'000);
  std::iota(mine.begin(), mine.end(), 1);
  std::iota(theirs.begin(), theirs.end(), 7);
  Transfer own = send(0, mine);
  own.kind = Transfer::Kind::kCopy;
  own.into = reinterpret_cast<std::byte*>(copy.data());
  ranks_[0]->start({send(1, mine), recv(1, got), own});
  ranks_[1]->start({recv(0, back), send(0, theirs)});
  ASSERT_TRUE(run(10));
  EXPECT_EQ(got, theirs);
  EXPECT_EQ(back, mine);
  EXPECT_EQ(copy, mine);
}

TEST_P(Transfers, DifferentSizesAreSaid) {
  const std::vector<int> three{1, 2, 3};
  std::vector<int> two(2);
  ranks_[0]->start({send(1, three)});
  ranks_[1]->start({recv(0, two)});
  EXPECT_FALSE(run(10));
  if (GetParam()) {
    EXPECT_EQ(ranks_[1]->mismatch(),
              "message 0 from rank 0 to rank 1: rank 0 sends 3 x int32, rank 1 receives 2 x int32");
  } else {
    ASSERT_TRUE(ranks_[1]->failure());
    EXPECT_NE(ranks_[1]->failure()->reason.find("12 bytes where 8 were expected"),
              std::string::npos)
        << ranks_[1]->failure()->reason;
  }
}

TEST_P(Transfers, DifferentTypesOfEqualSizeAreFoundByTheCheck) {
  const std::vector<int> data{1};
  std::vector<int> into(1);
  Transfer as_floats = recv(0, into);
  as_floats.type = ncclFloat32;
  ranks_[0]->start({send(1, data)});
  ranks_[1]->start({as_floats});
  EXPECT_EQ(run(10), !GetParam());
  if (GetParam()) {
    EXPECT_NE(ranks_[1]->mismatch().find("1 x fp32"), std::string::npos) << ranks_[1]->mismatch();
  }
}

TEST_P(Transfers, SaysWhatItWaitsFor) {
  std::vector<int> into(4);
  ranks_[1]->start({recv(0, into)});
  EXPECT_FALSE(run(0.02));
  EXPECT_EQ(ranks_[1]->waiting_for(), "to receive 16 bytes from rank 0 (message 0 from it)");
}

INSTANTIATE_TEST_SUITE_P(Checks, Transfers, ::testing::Bool());

}  // namespace
}  // namespace slimccl::runtime
