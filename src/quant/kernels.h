// The one compute verb of the library: fold k encoded sources into one encoded sink.
// Copy-with-scale, encode, decode, reduce, decode-reduce and decode-reduce-encode are all instances
// of it.
//
//   sink := encode( ((s0*x0) + s1*x1) + s2*x2 ... )     x = decoded source, fp32, in the order
//   given; every step one
//                                                       IEEE rounding, no contraction; a scale of
//                                                       exactly 1 is skipped
//
// Rows of the table give identical bits, and so do the CUDA kernels (quant/cuda/). Sources
// and sink may have any element alignment on the tensor side; messages are 64-byte aligned. The
// sink may be the same memory as a kTensor/kFp32 source of equal element size (elementwise in
// place), otherwise they do not overlap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/codec.h"

namespace slimccl::quant {

struct Source {
  const std::byte* data;
  Codec codec;
  float scale;  // applied after decoding
};

struct Sink {
  std::byte* data;
  Codec codec;
  // True where no sum happens (an all-gather): a finite value that would round to infinity becomes
  // the type's largest finite value instead. Infinities and NaN of the sources stay.
  bool saturate;
  // A hint: the sink is larger than the caches and not read again soon, so stores may go past them.
  bool streaming = false;
};

// What a row implements, without fold()'s checks: count >= 1 sources, elems >= 1, the default
// floating-point mode, nothing that is a mere copy, no padding to clear.
using RowFold = void(const Source* sources, uint64_t count, const Sink& sink, ncclDataType_t type,
                     uint64_t elems);

// One row: how one target (the scalar reference, an instruction set) does the work.
struct Kernels {
  const char* name;  // "scalar", "avx2", ...
  RowFold* row;

  // `type` is the tensor's type wherever codec == kTensor: fp32, bf16 or fp16.
  void fold(std::span<const Source> sources, const Sink& sink, ncclDataType_t type,
            uint64_t elems) const;
};

[[nodiscard]] std::span<const Kernels>
all_kernels();  // every row usable on this CPU, the scalar reference first
[[nodiscard]] const Kernels& best_kernels();

}  // namespace slimccl::quant
