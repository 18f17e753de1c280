#include "quant/codec.h"

#include <iterator>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "quant/q4s.h"
#include "quant/q8.h"

namespace slimccl::quant {
namespace {

constexpr std::string_view kNames[] = {"tensor", "fp32", "bf16", "q8", "q4s"};

struct TypeInfo {
  std::string_view name;
  uint64_t bytes;
};
// In the order of ncclDataType_t.
constexpr TypeInfo kTypes[] = {{"int8", 1},  {"uint8", 1},  {"int32", 4},   {"uint32", 4},
                               {"int64", 8}, {"uint64", 8}, {"fp16", 2},    {"fp32", 4},
                               {"fp64", 8},  {"bf16", 2},   {"fp8e4m3", 1}, {"fp8e5m2", 1}};
static_assert(std::size(kTypes) == ncclNumTypes);

const TypeInfo& info(ncclDataType_t type) {
  check(type >= 0 && type < ncclNumTypes, ncclInvalidArgument, "unknown data type ",
        static_cast<int>(type), ": expected 0 to ", ncclNumTypes - 1);
  return kTypes[type];
}

template <class Format>
uint64_t message_bytes(uint64_t elems) {
  const uint64_t whole = elems / kSuperblock * Format::kRecordBytes;
  const uint64_t used =
      Format::head_bytes(elems) + whole + Format::record_bytes(elems % kSuperblock);
  return round_up(used, kMessageAlign);
}

}  // namespace

std::string_view name(Codec codec) { return kNames[static_cast<size_t>(codec)]; }

Codec codec_from_name(std::string_view name) {
  for (const Codec codec : kAllCodecs) {
    if (quant::name(codec) == name) return codec;
  }
  std::string known;
  for (const std::string_view each : kNames) known.append(known.empty() ? "" : ", ").append(each);
  throw Error(ncclInvalidArgument, concat("unknown codec \"", name, "\": expected one of ", known));
}

bool is_lossless(Codec codec, ncclDataType_t type) {
  switch (codec) {
    case Codec::kTensor:
      return true;
    case Codec::kFp32:
      return is_float(type);
    case Codec::kBf16:
      return type == ncclBfloat16;
    case Codec::kQ8:
    case Codec::kQ4s:
      return false;
  }
  return false;
}

Form form_of(Codec codec, ncclDataType_t type) {
  switch (codec) {
    case Codec::kFp32:
      return Form::kFp32;
    case Codec::kBf16:
      return Form::kBf16;
    case Codec::kQ8:
      return Form::kQ8;
    case Codec::kQ4s:
      return Form::kQ4s;
    case Codec::kTensor:
      break;
  }
  return type == ncclFloat32 ? Form::kFp32 : type == ncclBfloat16 ? Form::kBf16 : Form::kFp16;
}

uint64_t type_bytes(ncclDataType_t type) { return info(type).bytes; }
std::string_view type_name(ncclDataType_t type) { return info(type).name; }

bool is_float(ncclDataType_t type) {
  return type == ncclFloat32 || type == ncclBfloat16 || type == ncclFloat16;
}

uint64_t encoded_bytes(Codec codec, ncclDataType_t type, uint64_t elems) {
  switch (codec) {
    case Codec::kTensor:
      return elems * type_bytes(type);
    case Codec::kFp32:
      return elems * 4;
    case Codec::kBf16:
      return elems * 2;
    case Codec::kQ8:
      return message_bytes<Q8>(elems);
    case Codec::kQ4s:
      return message_bytes<Q4s>(elems);
  }
  return 0;
}

}  // namespace slimccl::quant
