// Collectives that run on streams, over messages on streams, give the reference's bits: every row
// that sums, every codec, in and out of place, in one segment and in many, alone and coalesced.
#include "cuda/stream_ranks.h"

namespace slimccl::device::testing {
namespace {

constexpr uint64_t kLargeArena = uint64_t{4} << 20;
constexpr Collective kSharded[] = {Collective::kAllGather, Collective::kReduceScatter,
                                   Collective::kAllReduce};
constexpr ncclDataType_t kFloats[] = {ncclFloat32, ncclBfloat16, ncclFloat16};
constexpr const char* kClusters[] = {"2x2", "3+1", "0,1,0,1", "4x2"};

uint64_t smallest_arena(const std::string& topology) {
  return StreamTeam::least_arena_bytes(topology::parse(topology));
}

class StreamCollectives : public GpuTest {};

TEST_F(StreamCollectives, TwoHopGivesTheReferencesBits) {
  for (const char* topology : kClusters) {
    std::vector<Case> cases;
    for (const Collective op : kSharded) {
      for (const ncclDataType_t type : kFloats) {
        for (const bool in_place : {false, true}) {
          cases.push_back({.op = op, .type = type, .count = 2501, .in_place = in_place});
        }
      }
    }
    run_cases(topology, kLargeArena, cases);
  }
}

TEST_F(StreamCollectives, EveryCodecGivesTheReferencesBits) {
  std::vector<Case> cases;
  for (const Collective op : kSharded) {
    for (const Codec codec : {Codec::kTensor, Codec::kBf16, Codec::kQ8, Codec::kQ4s}) {
      cases.push_back({.op = op, .count = 3000, .codecs = {codec, codec}});
      cases.push_back({.op = op, .type = ncclBfloat16, .count = 77, .codecs = {codec, codec}});
    }
  }
  run_cases("2x2", kLargeArena, cases);
}

TEST_F(StreamCollectives, EveryRowGivesTheReferencesBits) {
  for (const char* topology : {"2x2", "3+1"}) {
    std::vector<Case> cases;
    for (const collectives::Row& row : collectives::catalog()) {
      for (const bool in_place : {false, true}) {
        cases.push_back({.op = row.op,
                         .count = 9001,
                         .in_place = in_place,
                         .row = row.name,
                         .root = has_root(row.op) ? 2 : 0});
        if (!row.fits(cases.back().shape(), topology::parse(topology))) cases.pop_back();
      }
    }
    EXPECT_GT(cases.size(), 20u);
    run_cases(topology, kLargeArena, cases);
  }
}

// In one call of the link, not in messages of its own, in every segment.
TEST_F(StreamCollectives, TheNodeRowGathersInTheNode) {
  for (const char* text : {"2x2", "4x2", "0,1,0,1"}) {
    const topology::Topology topology = topology::parse(text);
    with_stream_ranks(topology, smallest_arena(text), [&](StreamRank& self) {
      const Stream stream;
      for (const bool in_place : {false, true}) {
        for (const ncclDataType_t type : kFloats) {
          self.link->sends = self.link->gathers = 0;
          const Case each{.op = Collective::kAllGather,
                          .type = type,
                          .count = 30011,
                          .in_place = in_place,
                          .row = "node"};
          const CaseOnDevice buffers(each, topology, self.rank);
          enqueue_without_context({buffers.call(*self.team, stream)});
          stream.synchronize();
          buffers.expect_right();
          EXPECT_GT(self.link->gathers, 1) << "many segments";
          EXPECT_EQ(self.link->sends, self.link->gathers * (topology.nodes() - 1));
        }
      }
    });
  }
}

TEST_F(StreamCollectives, TheNodeRowIsCoalescedWithOthers) {
  const topology::Topology topology = topology::parse("2x2");
  with_stream_ranks(topology, kLargeArena, [&](StreamRank& self) {
    const Stream stream;
    std::vector<CaseOnDevice> buffers;
    std::vector<StreamCall> calls;
    for (const Collective op : kSharded) {
      for (const bool in_place : {false, true}) {
        const std::string_view row = op == Collective::kAllGather ? "node" : "two_hop";
        buffers.emplace_back(Case{.op = op, .count = 6001, .in_place = in_place, .row = row},
                             topology, self.rank);
        calls.push_back(buffers.back().call(*self.team, stream));
      }
    }
    enqueue_without_context(calls);
    stream.synchronize();
    for (const CaseOnDevice& each : buffers) each.expect_right();
    EXPECT_EQ(self.link->gathers, 2);
    EXPECT_EQ(self.link->groups, 5) << "the four of an all-reduce, and the gathers'";
  });
}

TEST_F(StreamCollectives, ManySegmentsGiveTheReferencesBits) {
  for (const char* topology : {"2x2", "3+1"}) {
    std::vector<Case> cases;
    for (const Collective op : kSharded) {
      for (const bool in_place : {false, true}) {
        cases.push_back({.op = op, .count = 21001, .in_place = in_place});
        cases.push_back({.op = op, .type = ncclFloat16, .count = 8193, .in_place = in_place});
      }
    }
    run_cases(topology, smallest_arena(topology), cases);
  }
}

TEST_F(StreamCollectives, EveryCountGivesTheReferencesBits) {
  std::vector<Case> cases;
  for (const Collective op : kSharded) {
    for (const uint64_t count : {0, 1, 3, 33, 2048, 2049, 16384}) {
      cases.push_back({.op = op, .type = ncclBfloat16, .count = count});
    }
  }
  run_cases("3+1", smallest_arena("3+1"), cases);
}

TEST_F(StreamCollectives, ScalesGiveTheReferencesBits) {
  for (const char* topology : kClusters) {
    std::vector<Case> cases;
    for (const Collective op : {Collective::kReduceScatter, Collective::kAllReduce}) {
      for (const Scaling scaling : {Scaling::kUniform, Scaling::kPerRank}) {
        for (const ncclDataType_t type : {ncclFloat32, ncclBfloat16}) {
          cases.push_back({.op = op, .type = type, .count = 5003, .scaling = scaling});
        }
      }
    }
    run_cases(topology, smallest_arena(topology) * 2, cases);
  }
}

// PreMulSum's scalar may be in device memory, where the stream writes it before the call.
TEST_F(StreamCollectives, ScalesInDeviceMemoryAreReadOnTheStream) {
  const topology::Topology topology = topology::parse("3+1");
  with_stream_ranks(topology, smallest_arena("3+1"), [&](StreamRank& self) {
    const Stream stream;
    for (const Collective op : {Collective::kReduceScatter, Collective::kAllReduce}) {
      for (const Scaling scaling : {Scaling::kUniform, Scaling::kPerRank}) {
        const Case each{.op = op, .count = 9001, .scaling = scaling, .offset = 1};
        const CaseOnDevice buffers(each, topology, self.rank);
        const float before = 100, scale = each.scale(self.rank).f32;
        const DeviceMemory scalar(&before, sizeof before), written(&scale, sizeof scale);
        StreamCall call = buffers.call(*self.team, stream);
        call.scale = before;
        call.device_scale = scalar.pointer();
        Hold hold(stream);
        driver().cuMemcpyDtoDAsync(scalar.address(), written.address(), sizeof scale, stream);
        enqueue_without_context({call});
        hold.let_go();
        stream.synchronize();
        buffers.expect_right();
      }
    }
  });
}

// NCCL takes buffers at any address.
TEST_F(StreamCollectives, MisalignedBuffersGiveTheReferencesBits) {
  std::vector<Case> cases;
  for (const Collective op : kSharded) {
    for (const bool in_place : {false, true}) {
      for (const Scaling scaling : {Scaling::kNone, Scaling::kPerRank}) {
        if (op == Collective::kAllGather && scaling != Scaling::kNone) continue;
        cases.push_back(
            {.op = op, .count = 5001, .scaling = scaling, .in_place = in_place, .offset = 2});
        cases.push_back({.op = op,
                         .type = ncclBfloat16,
                         .count = 5001,
                         .scaling = scaling,
                         .in_place = in_place,
                         .offset = 1});
      }
    }
  }
  run_cases("3+1", smallest_arena("3+1"), cases);
}

// A rank whose buffers are misaligned must cut a call as the others do.
TEST_F(StreamCollectives, OneMisalignedRankGivesTheReferencesBits) {
  const topology::Topology topology = topology::parse("2x2");
  with_stream_ranks(topology, smallest_arena("2x2"), [&](StreamRank& self) {
    const Stream stream;
    for (const Collective op : kSharded) {
      const size_t offset = self.rank == 1 ? 3 : 0;
      const CaseOnDevice buffers({.op = op, .count = 9001, .offset = offset}, topology, self.rank);
      enqueue_without_context({buffers.call(*self.team, stream)});
      stream.synchronize();
      buffers.expect_right();
    }
  });
}

// Calls of one team in one enqueue(), in place or not, of different lengths.
std::vector<Case> coalesced_cases() {
  std::vector<Case> cases;
  for (const Collective op : kSharded) {
    cases.push_back({.op = op, .count = 6001});
    cases.push_back({.op = op, .type = ncclBfloat16, .count = 11, .in_place = true});
    cases.push_back({.op = op, .type = ncclFloat16, .count = 2049, .offset = 1});
    cases.push_back({.op = op, .count = 0});
  }
  return cases;
}

// How many groups of messages the calls took.
int groups_of_coalesced(uint64_t arena_bytes) {
  const topology::Topology topology = topology::parse("2x2");
  std::atomic<int> groups{0};
  with_stream_ranks(topology, arena_bytes, [&](StreamRank& self) {
    const Stream stream;
    std::vector<CaseOnDevice> buffers;
    std::vector<StreamCall> calls;
    for (const Case& each : coalesced_cases()) {
      buffers.emplace_back(each, topology, self.rank);
      calls.push_back(buffers.back().call(*self.team, stream));
    }
    enqueue_without_context(calls);
    stream.synchronize();
    for (const CaseOnDevice& each : buffers) each.expect_right();
    if (self.rank == 0) groups = self.link->groups;
  });
  return groups;
}

TEST_F(StreamCollectives, CoalescedCallsShareGroupsAndGiveTheReferencesBits) {
  // The four levels of an all-reduce that have messages.
  EXPECT_EQ(groups_of_coalesced(uint64_t{16} << 20), 4);
}

TEST_F(StreamCollectives, CallsThatDoNotFitTogetherGoInBatches) {
  const int one_by_one = groups_of_coalesced(smallest_arena("2x2"));
  const int in_pairs = groups_of_coalesced(smallest_arena("2x2") * 2);
  EXPECT_LT(in_pairs, one_by_one);
  EXPECT_GT(in_pairs, 4);
}

// One thread serves several devices: both ends of a message may be its own. Returns how many groups
// of messages that took.
int on_devices_of_one_thread(const topology::Topology& topology, Mail& mail,
                             const std::vector<int>& ranks) {
  std::vector<std::unique_ptr<OnDevice>> contexts;  // retained
  std::vector<std::unique_ptr<StreamRank>> own;
  std::vector<std::unique_ptr<Stream>> streams;
  std::vector<CaseOnDevice> buffers;
  std::vector<StreamCall> calls;
  for (const int rank : ranks) {
    contexts.push_back(std::make_unique<OnDevice>(rank));
    own.push_back(std::make_unique<StreamRank>(mail, topology, rank, smallest_arena("2x2"), rank));
    streams.push_back(std::make_unique<Stream>());
    for (const Case& each : coalesced_cases()) {
      buffers.emplace_back(each, topology, rank);
      calls.push_back(buffers.back().call(*own.back()->team, *streams.back()));
    }
  }
  enqueue_without_context(calls);
  for (const auto& stream : streams) stream->synchronize();
  for (const CaseOnDevice& each : buffers) each.expect_right();
  int groups = 0;
  for (const auto& each : own) groups += each->link->groups;
  return groups;
}

// A group serves all devices of a thread, but some ranks have messages where others have none.
int most_groups() { return groups_of_coalesced(smallest_arena("2x2")) * 3 / 2; }

TEST_F(StreamCollectives, AllDevicesOfOneThread) {
  const int most = most_groups();
  Mail mail;
  EXPECT_LT(on_devices_of_one_thread(topology::parse("2x2"), mail, {0, 1, 2, 3}), most);
}

TEST_F(StreamCollectives, SomeDevicesOfEachThread) {
  const int most = most_groups();
  const topology::Topology topology = topology::parse("2x2");
  Mail mail;
  std::thread other([&] { EXPECT_LT(on_devices_of_one_thread(topology, mail, {3, 1}), most); });
  EXPECT_LT(on_devices_of_one_thread(topology, mail, {0, 2}), most);
  other.join();
}

}  // namespace
}  // namespace slimccl::device::testing
