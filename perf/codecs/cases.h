// The kernels that `./dev bench codecs` judges, as data: what is folded into what. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "quant/codec.h"

namespace slimccl::perf {

enum class Operation : uint8_t {
  kEncode,        // a tensor into a message
  kDecode,        // a message into a tensor
  kReduce,        // the sum of several messages into a tensor
  kReduceEncode,  // the sum of several messages into a message
  kSum,           // the sum of several tensors into a tensor
};

struct Case {
  Operation operation;
  quant::Codec codec;  // of the messages
  ncclDataType_t type;
  int sources;

  [[nodiscard]] quant::Codec from() const;
  [[nodiscard]] quant::Codec to() const;
  [[nodiscard]] uint64_t source_bytes(uint64_t elems) const;  // of one source
  [[nodiscard]] uint64_t sink_bytes(uint64_t elems) const;
  [[nodiscard]] uint64_t tensor_bytes(uint64_t elems) const;  // what GB/s counts
  [[nodiscard]] uint64_t moved_bytes(uint64_t elems) const;   // read and written by one call
  [[nodiscard]] std::string label() const;                    // "encode/q8/fp32/1"
};

// Every codec, tensor type and 1, 4 or 8 sources; no case is a mere copy.
[[nodiscard]] std::vector<Case> all_cases();

}  // namespace slimccl::perf
