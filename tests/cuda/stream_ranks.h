// Ranks with a StreamTeam each, on a device of their own, and calls with inputs of their own, for
// tests of the StreamExecutor. What a call must give is the plan-free reference's word.
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "collectives/verify.h"
#include "cuda/gpu_ranks.h"
#include "cuda/stream_link.h"
#include "runtime/stream/stream_executor.h"
#include "support/reference.h"
#include "support/simulate.h"

namespace slimccl::device::testing {

using collectives::Collective;
using collectives::Scaling;
using quant::Codec;
using runtime::StreamCall;
using runtime::StreamTeam;

inline const FoldKernels& fold_kernels() {
  static const FoldKernels& only = *new FoldKernels(driver(), quant::fold_fatbin());
  return only;
}

struct Case {
  Collective op = Collective::kAllReduce;
  ncclDataType_t type = ncclFloat32;
  uint64_t count = 0;
  collectives::Codecs codecs{Codec::kQ4s, Codec::kQ8};
  Scaling scaling = Scaling::kNone;
  bool in_place = false;
  size_t offset = 0;  // of the buffers, from an address that is aligned to anything
  std::string_view row = "two_hop";
  int root = 0;

  [[nodiscard]] const collectives::Row& catalogue_row() const {
    return collectives::find_row(op, row);
  }
  [[nodiscard]] collectives::Shape shape() const {
    return cut_by(catalogue_row(),
                  {.op = op, .type = type, .count = count, .scaling = scaling, .root = root});
  }
  [[nodiscard]] quant::Scalar scale(int rank) const {
    if (scaling == Scaling::kNone) return {};
    const float own = scaling == Scaling::kUniform ? 0.3f : 0.3f * static_cast<float>(1 + rank);
    return {.f32 = own, .f64 = own};
  }
  // Of all ranks.
  [[nodiscard]] std::vector<std::vector<std::byte>> inputs(int ranks) const {
    std::vector<std::vector<std::byte>> all;
    for (int rank = 0; rank < ranks; ++rank) {
      std::mt19937 random(static_cast<unsigned>(count + 31 * static_cast<uint64_t>(rank)));
      std::normal_distribution<float> normal;
      std::vector<float> values(collectives::input_bytes(shape(), ranks) / quant::type_bytes(type));
      for (float& value : values) value = normal(random);
      all.emplace_back(values.size() * quant::type_bytes(type));
      if (values.empty()) continue;
      const quant::Source source{reinterpret_cast<const std::byte*>(values.data()), Codec::kFp32,
                                 1};
      quant::best_kernels().fold({&source, 1}, {all.back().data(), Codec::kTensor, false}, type,
                                 values.size());
    }
    return all;
  }
  [[nodiscard]] std::string text() const {
    return concat(name(op), " by ", row, " of ", quant::type_name(type), " x ", count, ", ",
                  quant::name(codecs.reduce), "/", quant::name(codecs.gather), ", scaling ",
                  static_cast<int>(scaling), in_place ? ", in place" : "", ", offset ", offset);
  }
};

// One rank's side of a call: its buffers in the memory of the device that is current.
class CaseOnDevice {
 public:
  CaseOnDevice(const Case& of, const topology::Topology& topology, int rank)
      : case_(of),
        topology_(topology),
        rank_(rank),
        inputs_(case_.inputs(topology.ranks())),
        host_(::slimccl::testing::place(case_.shape(), topology.ranks(), rank, case_.in_place)),
        memory_(host_.memory.size() + 1, case_.offset) {
    const std::vector<std::byte>& input = inputs_[static_cast<size_t>(rank)];
    std::copy(input.begin(), input.end(),
              host_.memory.begin() + static_cast<int64_t>(host_.input_at));
    if (!host_.memory.empty())
      driver().cuMemcpyHtoD(memory_.address(), host_.memory.data(), host_.memory.size());
    driver().cuCtxGetCurrent(&context_);
  }

  [[nodiscard]] StreamCall call(StreamTeam& team, CUstream stream) const {
    return {.team = &team,
            .shape = case_.shape(),
            .row = &case_.catalogue_row(),
            .codecs = case_.codecs,
            .input = memory_.pointer<std::byte>() + host_.input_at,
            .output = memory_.pointer<std::byte>() + host_.output_at,
            .in_place = case_.in_place,
            .stream = stream,
            .scale = case_.scale(rank_).f32};
  }

  // The stream must have passed the call.
  void expect_right() const {
    const CurrentContext current(driver(), context_);
    const int ranks = topology_.ranks();
    std::vector<quant::Scalar> scales;
    scales.reserve(static_cast<size_t>(ranks));
    for (int rank = 0; rank < ranks; ++rank) scales.push_back(case_.scale(rank));
    const auto& row = case_.catalogue_row();
    const auto wanted = ::slimccl::testing::expected_output(
        row, case_.shape(), topology_, row.lossy ? case_.codecs : collectives::Codecs{}, inputs_,
        scales, rank_, case_.in_place);
    const std::vector<std::byte> seen = memory_.read();
    EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(),
                           seen.begin() + static_cast<int64_t>(host_.output_at)))
        << case_.text() << " on " << to_text(topology_) << ", rank " << rank_;
    if (case_.in_place) return;
    EXPECT_TRUE(std::equal(host_.memory.begin(),
                           host_.memory.begin() + static_cast<int64_t>(host_.output_at),
                           seen.begin()))
        << "the input of " << case_.text() << " on " << to_text(topology_) << ", rank " << rank_;
  }

  [[nodiscard]] const DeviceMemory& memory() const { return memory_; }
  [[nodiscard]] size_t input_at() const { return host_.input_at; }
  [[nodiscard]] size_t output_at() const { return host_.output_at; }
  [[nodiscard]] const std::vector<std::byte>& input() const {
    return inputs_[static_cast<size_t>(rank_)];
  }

 private:
  Case case_;
  const topology::Topology& topology_;
  int rank_;
  std::vector<std::vector<std::byte>> inputs_;
  ::slimccl::testing::RankMemory host_;
  DeviceMemory memory_;
  CUcontext context_ = nullptr;
};

// One rank of a communicator. Its device is current where it is made.
struct StreamRank {
  StreamRank(Mail& mail, const topology::Topology& topology, int at_rank, uint64_t arena_bytes,
             int on_device)
      : rank(at_rank), messages(mail) {
    auto own_link = std::make_unique<TestLink>(mail, rank, on_device);
    link = own_link.get();
    const auto members = topology.members(topology.node_of(rank));
    link->node_ranks.assign(members.begin(), members.end());
    team = std::make_unique<StreamTeam>(driver(), fold_kernels(), on_device, topology, rank,
                                        std::move(own_link), arena_bytes);
  }

  int rank;
  Mail& messages;
  TestLink* link;
  std::unique_ptr<StreamTeam> team;
};

// enqueue() as a thread calls it in which no context is current, and none becomes so.
inline void enqueue_without_context(const std::vector<StreamCall>& calls) {
  CUcontext before = nullptr, after = nullptr;
  driver().cuCtxGetCurrent(&before);
  driver().cuCtxSetCurrent(nullptr);
  runtime::enqueue(calls);
  driver().cuCtxGetCurrent(&after);
  EXPECT_EQ(after, nullptr);
  driver().cuCtxSetCurrent(before);
}

// Runs the body for each rank of the topology in a thread of its own, the rank's device current.
inline void with_stream_ranks(const topology::Topology& topology, uint64_t arena_bytes,
                              const std::function<void(StreamRank&)>& body) {
  Mail mail;
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(topology.ranks()));
  for (int rank = 0; rank < topology.ranks(); ++rank) {
    threads.emplace_back([&, rank] {
      const OnDevice current(rank);
      StreamRank self(mail, topology, rank, arena_bytes, rank);
      body(self);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Cases one after the other on one stream.
inline void run_cases(const std::string& topology_text, uint64_t arena_bytes,
                      const std::vector<Case>& cases) {
  const topology::Topology topology = topology::parse(topology_text);
  with_stream_ranks(topology, arena_bytes, [&](StreamRank& self) {
    const Stream stream;
    for (const Case& each : cases) {
      const CaseOnDevice buffers(each, topology, self.rank);
      enqueue_without_context({buffers.call(*self.team, stream)});
      stream.synchronize();
      buffers.expect_right();
    }
  });
}

}  // namespace slimccl::device::testing
