// Speed of every kernel row in cache: GB/s of the decoded (fp32, bf16 or fp16) side, one thread.
#include <benchmark/benchmark.h>

#include <random>
#include <string>
#include <vector>

#include "quant/kernels.h"

namespace slimccl::quant {
namespace {

constexpr uint64_t kElems = 32768;

struct Case {
  Codec from, to;
  ncclDataType_t type;
  int sources;
};

void run(benchmark::State& state, const Kernels& kernels, const Case& c) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> elems(kElems);
  for (float& elem : elems) elem = normal(generator);
  const auto* plain = reinterpret_cast<const std::byte*>(elems.data());
  std::vector<std::vector<std::byte>> inputs(c.sources);
  std::vector<Source> sources;
  for (auto& input : inputs) {
    input.resize(encoded_bytes(c.from, c.type, kElems) + kMessageAlign);
    kernels.fold({{{plain, Codec::kFp32, 1}}}, {input.data(), c.from, false}, c.type, kElems);
    sources.push_back({input.data(), c.from, 1});
  }
  std::vector<std::byte> output(encoded_bytes(c.to, c.type, kElems) + kMessageAlign);
  for (auto _ : state) {
    kernels.fold(sources, {output.data(), c.to, false}, c.type, kElems);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kElems * type_bytes(c.type)));
}

void register_all() {
  constexpr Codec kT = Codec::kTensor, kQ8 = Codec::kQ8, kQ4s = Codec::kQ4s;
  constexpr Case kCases[] = {
      {kT, kQ8, ncclFloat32, 1},   {kT, kQ4s, ncclFloat32, 1},  {kQ8, kT, ncclFloat32, 1},
      {kQ4s, kT, ncclFloat32, 1},  {kT, kQ8, ncclBfloat16, 1},  {kT, kQ4s, ncclBfloat16, 1},
      {kQ8, kT, ncclBfloat16, 1},  {kQ4s, kT, ncclBfloat16, 1}, {kT, kQ8, ncclFloat16, 1},
      {kQ8, kT, ncclFloat16, 1},   {kT, kT, ncclFloat32, 2},    {kT, kT, ncclBfloat16, 2},
      {kT, kT, ncclFloat16, 2},    {kQ4s, kT, ncclFloat32, 4},  {kQ4s, kQ4s, ncclFloat32, 4},
      {kQ4s, kQ4s, ncclFloat32, 8}};
  for (const Kernels& kernels : all_kernels()) {
    for (const Case& c : kCases) {
      const std::string label = std::string(kernels.name) + "/" + std::string(name(c.from)) +
                                "_to_" + std::string(name(c.to)) + "/" +
                                std::string(type_name(c.type)) + "/k" + std::to_string(c.sources);
      benchmark::RegisterBenchmark(
          label.c_str(), [&kernels, c](benchmark::State& state) { run(state, kernels, c); });
    }
  }
}

}  // namespace
}  // namespace slimccl::quant

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  slimccl::quant::register_all();
  benchmark::RunSpecifiedBenchmarks();
}
