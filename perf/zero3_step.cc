// One rank of the demo: the communication of one ZeRO-3 step on real tensors, timed and counted.
//   zero3_step WEIGHTS GRADIENTS_DIR ELEMS STEPS INTERFACE
// WEIGHTS holds bf16 numbers, GRADIENTS_DIR/<rank>.bf16 one rank's gradients; both are repeated to
// ELEMS elements. Rank 0 prints one JSON line per collective. torchrun's variables say who we are.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "checks.h"
#include "elements.h"
#include "side_channel.h"
#include "slimccl/slimccl.h"
#include "workload.h"

namespace slimccl::perf {
namespace {

using Tensor = std::vector<uint16_t>;

Tensor read_repeated(const std::string& path, size_t elems) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto bytes = static_cast<std::streamoff>(file.tellg());
  if (!file || bytes < 2) throw std::runtime_error("cannot read numbers from " + path);
  Tensor tensor(elems);
  const size_t period = static_cast<size_t>(bytes) / 2;
  file.seekg(0);
  file.read(reinterpret_cast<char*>(tensor.data()),
            static_cast<std::streamoff>(2 * std::min(period, elems)));
  for (size_t i = period; i < elems; ++i) tensor[i] = tensor[i - period];
  return tensor;
}

uint64_t sent_bytes(const std::string& network_interface) {
  uint64_t bytes = 0;
  const std::string path = "/sys/class/net/" + network_interface + "/statistics/tx_bytes";
  if (!(std::ifstream(path) >> bytes)) throw std::runtime_error("cannot read " + path);
  return bytes;
}

class Step {
 public:
  Step(const Place& place, SideChannel& channel, const char* network_interface)
      : place_(place), channel_(channel), interface_(network_interface) {
    ncclUniqueId id{};
    if (place.rank == 0) require(ncclGetUniqueId(&id), "ncclGetUniqueId");
    id = channel.from_root(id);
    require(ncclCommInitRank(&comm_, place.world, id, place.rank), "ncclCommInitRank");
  }
  ~Step() {
    if (comm_ != nullptr) (void)ncclCommDestroy(comm_);
  }
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  void gather(const char* name, const Tensor& weights) {
    const size_t shard = weights.size() / static_cast<size_t>(place_.world);
    Tensor output(weights.size());
    const uint16_t* mine = weights.data() + static_cast<size_t>(place_.rank) * shard;
    const Sample sample = measure([&] {
      require(ncclAllGather(mine, output.data(), shard, ncclBfloat16, comm_, nullptr),
              "ncclAllGather");
    });
    Judge judge;
    add(judge, output, [&](size_t i) { return load(weights.data(), i, ncclBfloat16); });
    report(name, sample, judge);
  }

  void reduce(const char* name, const std::vector<Tensor>& gradients) {
    const Tensor& mine = gradients[static_cast<size_t>(place_.rank)];
    const size_t shard = mine.size() / gradients.size();
    Tensor output(shard);
    const Sample sample = measure([&] {
      require(ncclReduceScatter(mine.data(), output.data(), shard, ncclBfloat16, ncclAvg, comm_,
                                nullptr),
              "ncclReduceScatter");
    });
    Judge judge;
    const size_t first = static_cast<size_t>(place_.rank) * shard;
    add(judge, output, [&](size_t i) {
      double sum = 0;
      for (const Tensor& each : gradients) sum += load(each.data(), first + i, ncclBfloat16);
      return sum / static_cast<double>(gradients.size());
    });
    report(name, sample, judge);
  }

  void warm_up() {  // connections, and the first touch of the library's own memory
    const size_t elems = size_t{1} << 20;
    const std::vector<float> send(elems);
    std::vector<float> recv(elems * static_cast<size_t>(place_.world));
    require(ncclAllGather(send.data(), recv.data(), elems, ncclFloat32, comm_, nullptr),
            "ncclAllGather");
    require(ncclReduceScatter(recv.data(), recv.data() + static_cast<size_t>(place_.rank) * elems,
                              elems, ncclFloat32, ncclSum, comm_, nullptr),
            "ncclReduceScatter");
  }

 private:
  struct Sample {
    double seconds = 0;
    double bytes = 0;
    uint64_t compressed = 0;
  };

  template <class Expected>
  static void add(Judge& judge, const Tensor& output, Expected&& expected) {
    constexpr size_t kChunk = 65536;
    std::vector<double> wanted;
    std::vector<double> actual;
    for (size_t at = 0; at < output.size(); at += kChunk) {
      const size_t size = std::min(kChunk, output.size() - at);
      wanted.resize(size);
      actual.resize(size);
      for (size_t i = 0; i < size; ++i) {
        wanted[i] = expected(at + i);
        actual[i] = load(output.data(), at + i, ncclBfloat16);
      }
      judge.add(wanted, actual, std::vector<double>(size, HUGE_VAL));
    }
  }

  [[nodiscard]] uint64_t compressed_calls() {
    slimcclStats_t stats{};
    stats.size = sizeof stats;
    require(slimcclGetStats(comm_, &stats), "slimcclGetStats");
    return stats.compressed_calls;
  }

  template <class Call>
  [[nodiscard]] Sample measure(Call&& call) {
    const bool counts = place_.local_rank == 0;
    const uint64_t compressed = compressed_calls();
    channel_.barrier();
    const uint64_t before = counts ? sent_bytes(interface_) : 0;
    channel_.barrier();
    const auto start = std::chrono::steady_clock::now();
    call();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    Sample total{0, 0, compressed_calls() - compressed};
    channel_.barrier();
    const double mine = counts ? static_cast<double>(sent_bytes(interface_) - before) : 0;
    for (const double seconds : channel_.gather(spent.count())) {
      total.seconds = std::max(total.seconds, seconds);
    }
    for (const double bytes : channel_.gather(mine)) total.bytes += bytes;
    return total;
  }

  void report(const char* name, const Sample& sample, const Judge& mine) {
    Judge all;
    for (const Judge& judge : channel_.gather(mine)) all.add(judge);
    if (place_.rank != 0) return;
    const Accuracy accuracy = all.result();
    std::printf(
        "{\"op\": \"%s\", \"seconds\": %.6f, \"bytes\": %.0f, \"compressed\": %s, "
        "\"sqnr_db\": %.3f, \"gain\": %.6f}\n",
        name, sample.seconds, sample.bytes, sample.compressed > 0 ? "true" : "false",
        std::min(accuracy.sqnr_db, 999.0), accuracy.gain);
    std::fflush(stdout);
  }

  Place place_;
  SideChannel& channel_;
  std::string interface_;
  ncclComm_t comm_ = nullptr;
};

int run(char** argv) {
  const Place place = place_from_environment();
  const size_t elems = std::strtoull(argv[3], nullptr, 10);
  if (elems == 0 || elems % static_cast<size_t>(place.world) != 0) {
    throw std::runtime_error("ELEMS must be a multiple of the number of ranks");
  }
  const Tensor weights = read_repeated(argv[1], elems);
  std::vector<Tensor> gradients;
  for (int rank = 0; rank < place.world; ++rank) {
    const std::string file = std::string(argv[2]) + "/" + std::to_string(rank) + ".bf16";
    gradients.push_back(read_repeated(file, elems));
  }
  SideChannel channel(place, 120);
  Step step(place, channel, argv[5]);
  step.warm_up();
  for (int i = std::atoi(argv[4]); i > 0; --i) {
    step.gather("all_gather_forward", weights);
    step.gather("all_gather_backward", weights);
    step.reduce("reduce_scatter_gradients", gradients);
  }
  channel.barrier();
  return 0;
}

}  // namespace
}  // namespace slimccl::perf

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: zero3_step WEIGHTS GRADIENTS_DIR ELEMS STEPS INTERFACE\n");
    return 2;
  }
  try {
    return slimccl::perf::run(argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "zero3_step: %s\n", error.what());
    return 3;
  }
}
