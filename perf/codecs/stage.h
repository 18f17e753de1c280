// Sets up what one benchmark compares: a kernel's rows, its two ceilings and memcpy on the same
// memory, or our best row and other people's quantizers. Owns the memory; one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "codecs/buffers.h"
#include "codecs/cases.h"
#include "codecs/contest.h"
#include "codecs/peers.h"
#include "quant/kernels.h"

namespace slimccl::perf {

// Where a kernel's data are.
struct Place {
  std::string name;
  uint64_t elems;        // of one call
  uint64_t total_bytes;  // that calls walk through; 0: the same memory every time
  bool streaming;        // Sink::streaming
  int rounds;
  Effort effort;
};

// 32 Ki elements: past the first-level cache, within any second-level cache of 512 KiB and more.
[[nodiscard]] Place in_cache();
// Calls of 4 Mi elements that walk through four times the last-level cache, at least 1 GiB.
[[nodiscard]] Place out_of_cache();

class Stage {
 public:
  // "row_NAME" for every row (out of cache the best one), "ceiling_plain", "ceiling_streaming",
  // "memcpy" of as many bytes as the tensor has, and for a 16-bit tensor "fp32", the best row on
  // fp32.
  Stage(const Case& test, const Place& place);
  // "row_NAME" for the best row, "peer NAME" and "coarse NAME"; encode or decode.
  Stage(const Case& test, const Place& place, const std::vector<Peer>& peers);

  [[nodiscard]] std::vector<Time> round() { return contest_->round(); }

 private:
  Buffers& make_buffers(int sources, uint64_t source_bytes, uint64_t sink_bytes);
  // Memory for `test` with sources that hold its codec's messages of normal random numbers.
  Buffers& make_input(const Case& test);
  void add_row(const std::string& name, const quant::Kernels& kernels, const Case& test,
               Buffers& buffers);
  void add_ceilings(const Case& test, Buffers& buffers);
  void add_memcpy(const Case& test);
  void add_peer(const Peer& peer, Operation operation);

  Place place_;
  std::vector<float> numbers_;
  std::vector<std::unique_ptr<Buffers>> buffers_;
  std::vector<Contender> contenders_;
  std::unique_ptr<Contest> contest_;
};

}  // namespace slimccl::perf
