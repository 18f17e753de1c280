#include "codecs/cases.h"

namespace slimccl::perf {
namespace {

using quant::Codec;

constexpr std::string_view kOperationNames[] = {"encode", "decode", "reduce", "reduce_encode",
                                                "sum"};
constexpr Codec kMessages[] = {Codec::kQ8, Codec::kQ4s, Codec::kBf16};
constexpr ncclDataType_t kTypes[] = {ncclFloat32, ncclBfloat16, ncclFloat16};

bool is_message(Operation operation, bool source) {
  switch (operation) {
    case Operation::kEncode:
      return !source;
    case Operation::kDecode:
    case Operation::kReduce:
      return source;
    case Operation::kReduceEncode:
      return true;
    case Operation::kSum:
      return false;
  }
  return false;
}

}  // namespace

Codec Case::from() const { return is_message(operation, true) ? codec : Codec::kTensor; }

Codec Case::to() const { return is_message(operation, false) ? codec : Codec::kTensor; }

uint64_t Case::source_bytes(uint64_t elems) const {
  return quant::encoded_bytes(from(), type, elems);
}

uint64_t Case::sink_bytes(uint64_t elems) const { return quant::encoded_bytes(to(), type, elems); }

uint64_t Case::tensor_bytes(uint64_t elems) const { return elems * quant::type_bytes(type); }

uint64_t Case::moved_bytes(uint64_t elems) const {
  return static_cast<uint64_t>(sources) * source_bytes(elems) + sink_bytes(elems);
}

std::string Case::label() const {
  return std::string(kOperationNames[static_cast<size_t>(operation)]) + "/" +
         std::string(quant::name(operation == Operation::kSum ? Codec::kTensor : codec)) + "/" +
         std::string(quant::type_name(type)) + "/" + std::to_string(sources);
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const Codec codec : kMessages) {
    for (const ncclDataType_t type : kTypes) {
      for (const int sources : {4, 8}) {
        cases.push_back({Operation::kReduce, codec, type, sources});
      }
      if (codec == Codec::kBf16 && type == ncclBfloat16) continue;  // encoding would be a copy
      cases.push_back({Operation::kEncode, codec, type, 1});
      cases.push_back({Operation::kDecode, codec, type, 1});
    }
    // Messages on both sides: the tensor's type plays no part.
    for (const int sources : {4, 8}) {
      cases.push_back({Operation::kReduceEncode, codec, ncclFloat32, sources});
    }
  }
  for (const ncclDataType_t type : kTypes) {
    cases.push_back({Operation::kSum, Codec::kTensor, type, 2});
  }
  return cases;
}

}  // namespace slimccl::perf
