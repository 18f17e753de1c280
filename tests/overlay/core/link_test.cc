// How compressed calls reach the real NCCL, and what keeps them away from a communicator that ends.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "base/error.h"
#include "core/background.h"
#include "core/entry.h"
#include "core/real_link.h"

namespace slimccl::overlay {
namespace {

std::string calls;            // what the fake NCCL was called
std::atomic<int> sends_left;  // that succeed
ncclResult_t split_result = ncclSuccess;

ncclComm_t handle(uintptr_t number) { return reinterpret_cast<ncclComm_t>(number); }

const slimccl_nccl fake = [] {
  slimccl_nccl nccl{};
  nccl.path = "/fake/libnccl.so.2";
  nccl.GroupStart = [] { return calls += "start ", ncclSuccess; };
  nccl.GroupEnd = [] { return calls += "end ", ncclSuccess; };
  // As the real one: what it takes for no ncclSimInfo_t it refuses, and drops the group.
  nccl.GroupSimulateEnd = [](ncclSimInfo_t* info) {
    return calls += info->magic == 0 ? "drop " : "keep ", ncclSuccess;
  };
  nccl.Send = [](const void*, size_t bytes, ncclDataType_t type, int peer, ncclComm_t,
                 cudaStream_t) {
    calls += concat("send ", bytes, " of ", static_cast<int>(type), " to ", peer, " ");
    return sends_left-- > 0 ? ncclSuccess : ncclInvalidArgument;
  };
  nccl.Recv = [](void*, size_t bytes, ncclDataType_t, int peer, ncclComm_t, cudaStream_t) {
    return calls += concat("recv ", bytes, " of ", peer, " "), ncclSuccess;
  };
  nccl.AllGather = [](const void* from, void* into, size_t bytes, ncclDataType_t type,
                      ncclComm_t comm, cudaStream_t) {
    calls += concat("gather ", bytes, " of ", static_cast<int>(type), " on ",
                    reinterpret_cast<uintptr_t>(comm), from == into ? "" : " moved", " ");
    return ncclSuccess;
  };
  nccl.CommSplit = [](ncclComm_t, int color, int key, ncclComm_t* child, ncclConfig_t* config) {
    calls += concat("split ", color, " ", key, config == nullptr ? " " : " configured ");
    *child = handle(7);
    return split_result;
  };
  nccl.CommAbort = [](ncclComm_t comm) {
    return calls += concat("abort ", reinterpret_cast<uintptr_t>(comm), " "), ncclSuccess;
  };
  nccl.CommDestroy = [](ncclComm_t comm) {
    return calls += concat("destroy ", reinterpret_cast<uintptr_t>(comm), " "), ncclSuccess;
  };
  nccl.GetLastError = [](ncclComm_t) { return "no such peer"; };
  return nccl;
}();

template <class Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return concat(error.code(), ": ", error.what());
  }
  return "none";
}

struct RealLinkTest : testing::Test {
  void SetUp() override {
    calls.clear();
    sends_left = 10;
    split_result = ncclSuccess;
  }
  std::shared_mutex issuing;
  RealLink link{fake, nullptr, issuing};
};

TEST_F(RealLinkTest, MessagesAreBytesInOneGroup) {
  link.start();
  link.send(nullptr, 64, 3, nullptr);
  link.recv(nullptr, 128, 1, nullptr);
  link.finish();
  EXPECT_EQ(calls, concat("start send 64 of ", int{ncclUint8}, " to 3 recv 128 of 1 end "));
  EXPECT_TRUE(issuing.try_lock()) << "it is no longer issuing";
}

TEST_F(RealLinkTest, AFailureSaysWhatTheRealOneSaid) {
  sends_left = 0;
  link.start();
  const std::string error = error_of([&] { link.send(nullptr, 64, 3, nullptr); });
  EXPECT_EQ(error, concat(int{ncclInvalidArgument},
                          ": the real NCCL failed in ncclSend, as part of a compressed call: no "
                          "such peer"));
  link.cancel();
  EXPECT_TRUE(calls.ends_with("drop ")) << "an end would send what was issued: " << calls;
  EXPECT_TRUE(issuing.try_lock());
}

TEST_F(RealLinkTest, NothingIsCalledOnceItIsClosed) {
  link.close();
  EXPECT_NE(error_of([&] { link.start(); }), "none");
  EXPECT_EQ(calls, "");
  EXPECT_TRUE(issuing.try_lock());
}

TEST_F(RealLinkTest, GathersOnTheNodesOwnCommunicator) {
  link.join_node(3, 1);
  link.start();
  link.node_gather(nullptr, nullptr, 64, nullptr);
  link.finish();
  EXPECT_EQ(calls, concat("split 3 1 start gather 64 of ", int{ncclUint8}, " on 7 end "));
  link.close();
  EXPECT_NE(error_of([&] { link.node_gather(nullptr, nullptr, 64, nullptr); }), "none");
}

TEST_F(RealLinkTest, TheNodesCommunicatorEndsOnce) {
  for (const auto how : {RealLink::NodeEnd::kDestroyed, RealLink::NodeEnd::kAborted}) {
    calls.clear();
    link.join_node(0, 0);
    link.leave_node(how);
    link.leave_node(RealLink::NodeEnd::kAborted);
    EXPECT_EQ(calls,
              how == RealLink::NodeEnd::kAborted ? "split 0 0 abort 7 " : "split 0 0 destroy 7 ");
    EXPECT_FALSE(link.has_node());
  }
}

TEST_F(RealLinkTest, AFailedSplitLeavesNothing) {
  split_result = ncclInProgress;  // nobody would wait for it
  EXPECT_EQ(
      error_of([&] { link.join_node(0, 0); }),
      concat(
          int{ncclInProgress},
          ": the real NCCL failed in ncclCommSplit, as part of a compressed call: no such peer"));
  EXPECT_EQ(calls, "split 0 0 abort 7 ");
  EXPECT_FALSE(link.has_node());
}

TEST_F(RealLinkTest, ClosingWaitsForMessagesThatAreBeingIssued) {
  link.start();
  std::atomic<bool> closed{false};
  std::thread watchdog([&] {
    link.close();
    closed = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(closed) << "the real communicator would be freed under our feet";
  link.finish();
  watchdog.join();
  EXPECT_TRUE(closed);
}

TEST(OverlayReductions, AHostsScalarIsReadAtOnceADevicesLater) {
  api::Reductions reductions;
  const auto op = static_cast<ncclRedOp_t>(17), other = static_cast<ncclRedOp_t>(18);
  float value = 0.25f;
  reductions.add(op, &value, ncclFloat, ncclScalarHostImmediate);
  value = 9;
  reductions.add(other, &value, ncclFloat, ncclScalarDevice);
  EXPECT_EQ(reductions.resolve(op, ncclFloat, 4).scale.f32, 0.25f);
  EXPECT_EQ(reductions.resolve(op, ncclFloat, 4).device_scalar, nullptr);
  EXPECT_EQ(reductions.resolve(other, ncclFloat, 4).device_scalar, &value);
  EXPECT_NE(error_of([&] { (void)reductions.resolve(op, ncclBfloat16, 4); }).find("made for fp32"),
            std::string::npos);
  reductions.destroy(op);
  EXPECT_NE(error_of([&] { (void)reductions.resolve(op, ncclFloat, 4); }).find("operation 17"),
            std::string::npos);
}

TEST(OverlayEntry, ABrokenCommunicatorSaysWhyUntilItIsMadeAnew) {
  Entry entry;
  entry.need_whole();
  entry.break_off(ncclSystemError, "first");
  entry.break_off(ncclRemoteError, "second");
  const std::string error = error_of([&] { entry.need_whole(); });
  EXPECT_NE(error.find("first"), std::string::npos) << error;
  entry.reset();
  EXPECT_EQ(error_of([&] { entry.need_whole(); }), "none");
}

// Ranks that come when they are told to.
struct FakeStar : runtime::Bootstrap {
  std::vector<std::vector<std::byte>> all_gather(ConstBytes mine, double) override {
    while (!all_came) std::this_thread::yield();
    if (fails) throw Error(ncclSystemError, "rank 1 died");
    return {2, {mine.begin(), mine.end()}};
  }
  [[nodiscard]] int wait_fd() const noexcept override { return -1; }
  [[nodiscard]] std::optional<runtime::RankFailure> check() noexcept override { return {}; }
  void report(const runtime::RankFailure&) noexcept override {}
  void on_question(std::function<std::string()>) override {}
  void ask() noexcept override {}
  [[nodiscard]] std::vector<std::optional<std::string>> answers() const override { return {}; }
  void leave() noexcept override {}
  void abort(const std::string&) noexcept override {}

  std::atomic<bool> all_came{false}, fails{false};
};

TEST(OverlayBackground, AnExchangeGoesOnBesideTheCalls) {
  FakeStar star;
  Background background;
  background.wait();  // nothing is under way
  background.begin(star, {std::byte{7}});
  EXPECT_TRUE(background.under_way());
  star.all_came = true;
  EXPECT_EQ(background.take(5), (std::vector<Background::Bytes>{{std::byte{7}}, {std::byte{7}}}));
  EXPECT_FALSE(background.under_way());
  star.all_came = false;
  background.begin(star, {});
  EXPECT_NE(error_of([&] { (void)background.take(0.01); }).find("within 0.01 s"), std::string::npos)
      << "a rank that does not come is an error in time";
  star.all_came = true;
  background.wait();
  star.fails = true;
  background.begin(star, {});
  EXPECT_EQ(error_of([&] { (void)background.take(5); }),
            concat(int{ncclRemoteError},
                   ": the ranks can no longer agree on what is compressed: rank 1 died"));
}

}  // namespace
}  // namespace slimccl::overlay
