#include "codecs/stage.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "codecs/ceiling.h"

namespace slimccl::perf {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

uint64_t last_level_cache_bytes() {
  const int64_t bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? static_cast<uint64_t>(bytes) : 256 * kMiB;
}

const float* floats(const std::byte* bytes) { return reinterpret_cast<const float*>(bytes); }
uint8_t* octets(std::byte* bytes) { return reinterpret_cast<uint8_t*>(bytes); }

}  // namespace

Place in_cache() {
  return {"in_cache", 32768,
          0,          false,
          31,         {.seconds = 1e-3, .settle_bytes = 0, .bytes = 0, .longest_seconds = 0.02}};
}

Place out_of_cache() {
  const uint64_t cache = last_level_cache_bytes();
  const uint64_t total = std::max(4 * cache, 1024 * kMiB);
  return {"out_of_cache",
          4 * kMiB,
          total,
          true,
          11,
          {.seconds = 0, .settle_bytes = cache, .bytes = total / 2, .longest_seconds = 0.15}};
}

Stage::Stage(const Case& test, const Place& place) : place_(place) {
  Buffers& input = make_input(test);
  const auto rows = quant::all_kernels();
  for (const quant::Kernels& row : place.total_bytes == 0 ? rows : rows.last(1)) {
    add_row("row_" + std::string(row.name), row, test, input);
  }
  add_ceilings(test, input);
  add_memcpy(test);
  if (test.type != ncclFloat32) {
    Case wide = test;
    wide.type = ncclFloat32;
    add_row("fp32", quant::best_kernels(), wide, make_input(wide));
  }
  contest_ = std::make_unique<Contest>(place.effort, contenders_);
}

Stage::Stage(const Case& test, const Place& place, const std::vector<Peer>& peers) : place_(place) {
  const quant::Kernels& row = quant::best_kernels();
  add_row("row_" + std::string(row.name), row, test, make_input(test));
  const int bits = test.codec == quant::Codec::kQ8 ? 8 : 4;
  for (const Peer& peer : peers) {
    if (peer.bits == bits) add_peer(peer, test.operation);
  }
  contest_ = std::make_unique<Contest>(place.effort, contenders_);
}

Buffers& Stage::make_buffers(int sources, uint64_t source_bytes, uint64_t sink_bytes) {
  buffers_.push_back(
      std::make_unique<Buffers>(sources, source_bytes, sink_bytes, place_.total_bytes));
  return *buffers_.back();
}

Buffers& Stage::make_input(const Case& test) {
  if (numbers_.empty()) {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    numbers_.resize(place_.elems);
    for (float& number : numbers_) number = normal(generator);
  }
  const uint64_t bytes = test.source_bytes(place_.elems);
  Buffers message(1, bytes, bytes, 0);
  quant::best_kernels().fold(
      {{{reinterpret_cast<const std::byte*>(numbers_.data()), quant::Codec::kFp32, 1}}},
      {message.sink(0), test.from(), false}, test.type, place_.elems);
  Buffers& input = make_buffers(test.sources, bytes, test.sink_bytes(place_.elems));
  input.fill(message.sink(0));
  return input;
}

void Stage::add_row(const std::string& name, const quant::Kernels& kernels, const Case& test,
                    Buffers& buffers) {
  const bool streaming = place_.streaming;
  const uint64_t elems = place_.elems;
  contenders_.push_back(
      {name, test.moved_bytes(elems), [=, &kernels, &buffers] {
         const size_t set = buffers.next_set();
         quant::Source sources[8];
         for (int i = 0; i < test.sources; ++i) {
           sources[i] = {buffers.sources(set)[static_cast<size_t>(i)], test.from(), 1};
         }
         kernels.fold({sources, static_cast<size_t>(test.sources)},
                      {buffers.sink(set), test.to(), false, streaming}, test.type, elems);
       }});
}

void Stage::add_ceilings(const Case& test, Buffers& buffers) {
  const uint64_t source_bytes = test.source_bytes(place_.elems);
  const uint64_t sink_bytes = test.sink_bytes(place_.elems);
  for (const Stores stores : {Stores::kPlain, Stores::kStreaming}) {
    const char* name = stores == Stores::kPlain ? "ceiling_plain" : "ceiling_streaming";
    contenders_.push_back({name, test.moved_bytes(place_.elems), [=, &buffers] {
                             const size_t set = buffers.next_set();
                             move_bytes(buffers.sources(set), source_bytes, buffers.sink(set),
                                        sink_bytes, stores);
                           }});
  }
}

void Stage::add_memcpy(const Case& test) {
  const uint64_t bytes = test.tensor_bytes(place_.elems);
  Buffers& buffers = make_buffers(1, bytes, bytes);
  const std::vector<std::byte> content(bytes, std::byte{1});
  buffers.fill(content.data());
  contenders_.push_back({"memcpy", 2 * bytes, [=, &buffers] {
                           const size_t set = buffers.next_set();
                           std::memcpy(buffers.sink(set), buffers.sources(set)[0], bytes);
                         }});
}

void Stage::add_peer(const Peer& peer, Operation operation) {
  const std::string name = (peer.coarse ? "coarse " : "peer ") + peer.name;
  const uint64_t plain_bytes = 4 * place_.elems;
  const uint64_t moved_bytes = plain_bytes + peer.encoded_bytes;
  Buffers& buffers = make_buffers(1, plain_bytes, peer.encoded_bytes);
  buffers.fill(reinterpret_cast<const std::byte*>(numbers_.data()));
  const float* numbers = floats(buffers.sources(0)[0]);
  uint8_t* message = octets(buffers.sink(0));
  if (operation == Operation::kEncode) {
    contenders_.push_back({name, moved_bytes,
                           [encode = peer.encode, numbers, message] { encode(numbers, message); }});
    return;
  }
  peer.encode(numbers, message);
  Buffers& output = make_buffers(1, 64, plain_bytes);
  auto* decoded = reinterpret_cast<float*>(output.sink(0));
  contenders_.push_back(
      {name, moved_bytes, [decode = peer.decode, message, decoded] { decode(message, decoded); }});
}

}  // namespace slimccl::perf
