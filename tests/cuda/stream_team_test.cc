// StreamTeam and the order of what enqueue() puts on streams: the arena and who waits for it, the
// thread's context, and errors of CUDA and of messages.
#include <chrono>

#include "base/error.h"
#include "cuda/emulated/more_abi.h"
#include "cuda/stream_ranks.h"

namespace slimccl::device::testing {
namespace {

using ::testing::HasSubstr;

const topology::Topology& two_by_two() {
  static const topology::Topology& only = *new topology::Topology(topology::parse("2x2"));
  return only;
}
uint64_t smallest_arena() { return StreamTeam::least_arena_bytes(two_by_two()); }

size_t free_bytes() {
  size_t free = 0, total = 0;
  using MemGetInfo = CUresult(size_t*, size_t*);
  EXPECT_EQ(control<MemGetInfo>("cuMemGetInfo_v2")(&free, &total), CUDA_SUCCESS);
  return free;
}

// Never for a moment more than it should: a stream that does not wait is done by then.
void expect_waiting(CUstream stream) {
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(driver().cuStreamQuery.result(stream), CUDA_ERROR_NOT_READY);
}

template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class StreamTeams : public GpuTest {
 protected:
  // A team of rank 0 alone, on device 0.
  static std::unique_ptr<StreamTeam> lone_team(Mail& mail, uint64_t arena_bytes) {
    return std::make_unique<StreamTeam>(driver(), fold_kernels(), 0, two_by_two(), 0,
                                        std::make_unique<TestLink>(mail, 0, 0), arena_bytes);
  }
};

TEST_F(StreamTeams, AnArenaThatIsTooSmallIsRefusedWithTheLeastThatIsEnough) {
  Mail mail;
  const size_t before = free_bytes();
  EXPECT_THAT(error_of([&] { (void)lone_team(mail, smallest_arena() - 1); }),
              HasSubstr(concat("an arena of ", smallest_arena() - 1,
                               " bytes of GPU memory is too small for 4 ranks on 2 nodes (2x2): "
                               "give it at least ",
                               smallest_arena(), " bytes")));
  EXPECT_EQ(free_bytes(), before);
}

TEST_F(StreamTeams, TheArenaIsTakenOnceAndGivenBack) {
  Mail mail;
  const size_t before = free_bytes();
  {
    const auto team = lone_team(mail, uint64_t{3} << 20);
    EXPECT_EQ(free_bytes(), before - (size_t{3} << 20));
  }
  EXPECT_EQ(free_bytes(), before);
}

TEST_F(StreamTeams, ATeamThatCudaRefusesGivesBackWhatItTook) {
  Mail mail;
  const size_t before = free_bytes();
  for (const char* function : {"cuMemAlloc_v2", "cuEventCreate", "cuKernelGetFunction"}) {
    SLIMCCL_CONTROL(slimccl_emulated_fail)(function, 1, CUDA_ERROR_OUT_OF_MEMORY);
    EXPECT_THAT(error_of([&] { (void)lone_team(mail, smallest_arena()); }),
                HasSubstr("CUDA_ERROR_OUT_OF_MEMORY"))
        << function;
    EXPECT_EQ(free_bytes(), before) << function;
  }
}

TEST_F(StreamTeams, CallsThatStreamsDoNotKnowAreRefusedBeforeAnythingIsEnqueued) {
  Mail mail;
  const auto team = lone_team(mail, smallest_arena());
  const Stream stream;
  const CaseOnDevice buffers({.count = 100}, two_by_two(), 0);
  const StreamCall good = buffers.call(*team, stream);
  StreamCall integers = good;
  integers.shape.type = ncclInt32;
  const Hold hold(stream);  // would keep whatever were enqueued
  EXPECT_THAT(error_of([&] {
                runtime::enqueue(std::vector{good, integers});
              }),
              HasSubstr("int32 elements"));
  EXPECT_EQ(dynamic_cast<TestLink&>(team->link()).groups, 0);
}

// The arena has two slots: calls on two streams need not wait for each other, a third must.
TEST_F(StreamTeams, ASlotsNextUserWaitsForItsLast) {
  with_stream_ranks(two_by_two(), smallest_arena(), [](StreamRank& self) {
    const Stream streams[3];
    std::vector<CaseOnDevice> buffers;
    for (const uint64_t count : {5000, 5001, 5002}) {
      buffers.emplace_back(Case{.count = count}, two_by_two(), self.rank);
    }
    Hold hold(streams[0]);
    for (size_t i = 0; i < 3; ++i) {
      enqueue_without_context({buffers[i].call(*self.team, streams[i])});
    }
    streams[1].synchronize();
    expect_waiting(streams[2]);
    hold.let_go();
    for (const Stream& stream : streams) stream.synchronize();
    for (const CaseOnDevice& each : buffers) each.expect_right();
  });
}

TEST_F(StreamTeams, ManyCallsOnManyStreamsKeepTheirBits) {
  with_stream_ranks(two_by_two(), smallest_arena(), [](StreamRank& self) {
    const Stream streams[5];
    std::vector<CaseOnDevice> buffers;
    for (uint64_t i = 0; i < 20; ++i) {
      const Collective op = i % 2 == 0 ? Collective::kAllReduce : Collective::kReduceScatter;
      buffers.emplace_back(Case{.op = op, .count = 3000 + 7 * i}, two_by_two(), self.rank);
    }
    for (size_t i = 0; i < buffers.size(); ++i) {
      enqueue_without_context({buffers[i].call(*self.team, streams[i % 5])});
    }
    for (const Stream& stream : streams) stream.synchronize();
    for (const CaseOnDevice& each : buffers) each.expect_right();
  });
}

TEST_F(StreamTeams, CallsOfOneBatchWaitForAllItsStreams) {
  with_stream_ranks(two_by_two(), smallest_arena(), [](StreamRank& self) {
    const Stream first, second;
    const CaseOnDevice one({.count = 5000}, two_by_two(), self.rank);
    const CaseOnDevice two({.count = 6000}, two_by_two(), self.rank);
    const std::vector<StreamCall> calls = {one.call(*self.team, first),
                                           two.call(*self.team, second)};
    for (const bool hold_first : {false, true}) {
      Hold hold(hold_first ? first : second);
      enqueue_without_context(calls);
      expect_waiting(hold_first ? second : first);
      hold.let_go();
      second.synchronize();
      two.expect_right();
      first.synchronize();
      one.expect_right();
    }
  });
}

// CUDA's allocations and waits would not return while the stream is held.
TEST_F(StreamTeams, EnqueueNeitherWaitsNorAllocates) {
  with_stream_ranks(two_by_two(), smallest_arena(), [](StreamRank& self) {
    const Stream stream;
    const CaseOnDevice large({.count = 30000, .offset = 1}, two_by_two(), self.rank);
    const CaseOnDevice small({.op = Collective::kAllGather, .count = 10}, two_by_two(), self.rank);
    const size_t free = free_bytes();
    Hold hold(stream);
    enqueue_without_context({large.call(*self.team, stream), small.call(*self.team, stream)});
    EXPECT_EQ(driver().cuStreamQuery.result(stream), CUDA_ERROR_NOT_READY);
    EXPECT_EQ(free_bytes(), free);
    hold.let_go();
    stream.synchronize();
    large.expect_right();
    small.expect_right();
  });
}

TEST_F(StreamTeams, AnotherDevicesContextStaysCurrent) {
  const topology::Topology topology = topology::parse("2x1");
  Mail mail;
  std::vector<std::thread> threads;
  threads.reserve(2);
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      CUcontext own = nullptr, now = nullptr;
      driver().cuDevicePrimaryCtxRetain(&own, rank);
      const OnDevice elsewhere(rank + 2);
      {
        StreamRank self(mail, topology, rank, StreamTeam::least_arena_bytes(topology), rank);
        EXPECT_EQ(current_device(driver()), rank + 2);
        driver().cuCtxSetCurrent(own);
        const Stream stream;
        const CaseOnDevice buffers({.count = 9000}, topology, rank);
        driver().cuDevicePrimaryCtxRetain(&now, rank + 2);
        driver().cuCtxSetCurrent(now);
        const StreamCall call = buffers.call(*self.team, stream);
        runtime::enqueue({&call, 1});
        EXPECT_EQ(current_device(driver()), rank + 2);
        stream.synchronize();
        buffers.expect_right();
        driver().cuDevicePrimaryCtxRelease(rank + 2);
      }
      EXPECT_EQ(current_device(driver()), rank + 2);
      driver().cuDevicePrimaryCtxRelease(rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Two communicators of the same devices, in one enqueue() and in another order of the calls.
TEST_F(StreamTeams, TeamsOfOneDeviceFollowEachOther) {
  Mail other_mail;
  with_stream_ranks(two_by_two(), smallest_arena(), [&](StreamRank& self) {
    StreamRank other(other_mail, two_by_two(), self.rank, smallest_arena(), self.rank);
    const Stream stream;
    const CaseOnDevice one({.count = 5000}, two_by_two(), self.rank);
    const CaseOnDevice two({.count = 6000}, two_by_two(), self.rank);
    const CaseOnDevice three({.count = 7000}, two_by_two(), self.rank);
    enqueue_without_context({one.call(*self.team, stream), two.call(*other.team, stream),
                             three.call(*self.team, stream)});
    stream.synchronize();
    for (const CaseOnDevice* each : {&one, &two, &three}) each->expect_right();
  });
}

TEST_F(StreamTeams, AMessageThatFailsIsAnErrorAndTheGroupIsCancelled) {
  for (const int at_send : {1, 2, 4, 6}) {
    with_stream_ranks(two_by_two(), smallest_arena(), [&](StreamRank& self) {
      const Stream stream;
      const CaseOnDevice buffers({.count = 1000}, two_by_two(), self.rank);
      if (self.rank == 1) {
        self.link->fail_at_send = at_send;
        EXPECT_THAT(error_of([&] { enqueue_without_context({buffers.call(*self.team, stream)}); }),
                    concat("this link fails at send ", at_send));
        EXPECT_EQ(self.link->cancels, 1);
        self.messages.give_up();
      } else {
        enqueue_without_context({buffers.call(*self.team, stream)});
        EXPECT_EQ(self.link->cancels, 0);
      }
      stream.synchronize();
    });
  }
}

TEST_F(StreamTeams, WhatCudaRefusesIsAnError) {
  Mail mail;
  for (const char* function :
       {"cuLaunchKernel", "cuStreamWaitEvent", "cuEventRecord", "cuMemcpyDtoDAsync_v2"}) {
    mail.give_up();
    const auto team = lone_team(mail, smallest_arena());
    const Stream stream, other;
    const CaseOnDevice one({.count = 1000, .offset = 1}, two_by_two(), 0);
    const CaseOnDevice two({.count = 1000}, two_by_two(), 0);
    SLIMCCL_CONTROL(slimccl_emulated_fail)(function, 1, CUDA_ERROR_LAUNCH_FAILED);
    EXPECT_THAT(error_of([&] {
                  runtime::enqueue(std::vector{one.call(*team, stream), two.call(*team, other)});
                }),
                HasSubstr("CUDA_ERROR_LAUNCH_FAILED"))
        << function;
    EXPECT_EQ(current_device(driver()), 0);
    stream.synchronize();
    other.synchronize();
  }
}

}  // namespace
}  // namespace slimccl::device::testing
