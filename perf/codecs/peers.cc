#include "codecs/peers.h"

#include <dlfcn.h>

#include <cmath>
#include <stdexcept>

namespace slimccl::perf {
namespace {

class Library {
 public:
  explicit Library(const std::filesystem::path& file) : handle_(dlopen(file.c_str(), RTLD_NOW)) {
    if (handle_ == nullptr) throw std::runtime_error(dlerror());
  }

  template <class Function>
  [[nodiscard]] Function* find(const char* name) const {
    void* address = dlsym(handle_, name);
    if (address == nullptr) throw std::runtime_error(dlerror());
    return reinterpret_cast<Function*>(address);
  }

 private:
  void* handle_;
};

// The one file in `folder` whose name starts so: wheels add a hash to their libraries' names.
std::filesystem::path find_file(const std::filesystem::path& folder, const std::string& start) {
  if (std::filesystem::is_directory(folder)) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().filename().string().starts_with(start)) return entry.path();
    }
  }
  throw std::runtime_error("no " + start + "* in " + folder.string());
}

// ggml's row functions: blocks of 32 with an fp16 scale. Its q8_0 encoder is the vectorized one of
// libggml-cpu, not the reference of libggml-base; q4_0 has no faster encoder than the reference.
void add_ggml(const std::filesystem::path& folder, uint64_t elems, std::vector<Peer>& peers) {
  using Encode = void(const float*, void*, int64_t);
  using Decode = void(const void*, float*, int64_t);
  const Library base(find_file(folder, "libggml-base-"));
  const Library cpu(find_file(folder, "libggml-cpu-"));
  cpu.find<void()>("ggml_cpu_init")();
  struct Format {
    int bits;
    const char *name, *encode, *decode;
  };
  const uint64_t blocks = elems / 32;
  const auto count = static_cast<int64_t>(elems);
  for (const Format& format :
       {Format{8, "ggml q8_0", "quantize_row_q8_0", "dequantize_row_q8_0"},
        Format{4, "ggml q4_0", "quantize_row_q4_0", "dequantize_row_q4_0"}}) {
    auto* encode = cpu.find<Encode>(format.encode);
    auto* decode = base.find<Decode>(format.decode);
    peers.push_back({format.name, format.bits, false,
                     blocks * (2 + 4 * static_cast<uint64_t>(format.bits)),
                     [=](const float* in, uint8_t* out) { encode(in, out, count); },
                     [=](const uint8_t* in, float* out) { decode(in, out, count); }});
  }
}

// FBGEMM's row-wise quantizers, the AVX2 kernels that its front functions choose for fp32 on every
// x86 with AVX2. A row has a scale and an offset of its own: rows as long as our blocks, the length
// that FBGEMM's users have (128), and long ones, which cost least.
void add_fbgemm(const std::filesystem::path& folder, uint64_t elems, std::vector<Peer>& peers) {
  using Encode = void(const float*, size_t, int, uint8_t*, const float*);
  using Decode = void(const uint8_t*, size_t, int, float*);
  if (!__builtin_cpu_supports("avx2")) throw std::runtime_error("this CPU has no AVX2");
  const Library library(folder / "fbgemm.so");
  auto* encode8 = library.find<Encode>(
      "_ZN6fbgemm49FloatOrHalfToFused8BitRowwiseQuantizedSBFloatAvx2IfEEvPKT_miPhS3_");
  auto* decode8 = library.find<Decode>(
      "_ZN6fbgemm49Fused8BitRowwiseQuantizedSBFloatToFloatOrHalfAvx2IfLb1ELb1EEEvPKhmiPT_");
  auto* encode4 = library.find<Encode>(
      "_ZN6fbgemm48FloatOrHalfToFusedNBitRowwiseQuantizedSBHalfAvx2IfLi4EEEvPKT_miPhS3_");
  auto* decode4 = library.find<Decode>(
      "_ZN6fbgemm48FusedNBitRowwiseQuantizedSBHalfToFloatOrHalfAvx2IfLi4EEEvPKhmiPT_");
  struct Format {
    int bits, columns, extra_bytes;
  };
  for (const Format& format : {Format{8, 64, 8}, Format{8, 128, 8}, Format{8, 2048, 8},
                               Format{4, 32, 4}, Format{4, 128, 4}, Format{4, 2048, 4}}) {
    const int columns = format.columns;
    const int row_bytes = columns * format.bits / 8 + format.extra_bytes;
    const size_t rows = elems / static_cast<uint64_t>(columns);
    auto* encode = format.bits == 8 ? encode8 : encode4;
    auto* decode = format.bits == 8 ? decode8 : decode4;
    peers.push_back(
        {"FBGEMM " + std::to_string(format.bits) + "-bit, rows of " + std::to_string(columns),
         format.bits, columns > 128, rows * static_cast<uint64_t>(row_bytes),
         [=](const float* in, uint8_t* out) { encode(in, rows, columns, out, nullptr); },
         [=](const uint8_t* in, float* out) { decode(in, rows, row_bytes, out); }});
  }
}

// Wrong numbers would be quick to compute. Throws unless a run comes back nearly as it was.
void check_round_trip(const Peer& peer, uint64_t elems) {
  std::vector<float> in(elems), out(elems);
  std::vector<uint8_t> message(peer.encoded_bytes);
  for (uint64_t i = 0; i < elems; ++i) in[i] = std::sin(static_cast<float>(i));
  peer.encode(in.data(), message.data());
  peer.decode(message.data(), out.data());
  const float step = peer.bits == 8 ? 0.02f : 0.3f;
  for (uint64_t i = 0; i < elems; ++i) {
    if (!(std::fabs(in[i] - out[i]) <= step)) {
      throw std::runtime_error(peer.name + " gives " + std::to_string(out[i]) + " for " +
                               std::to_string(in[i]));
    }
  }
}

// All of a library's peers, or none and the reason.
template <class Add>
void try_to_add(const char* name, uint64_t elems, Peers& peers, Add&& add) {
  try {
    std::vector<Peer> found;
    add(found);
    for (const Peer& peer : found) check_round_trip(peer, elems);
    peers.found.insert(peers.found.end(), found.begin(), found.end());
  } catch (const std::exception& error) {
    peers.missing.push_back(std::string(name) + ": " + error.what());
  }
}

}  // namespace

Peers load_peers(const std::filesystem::path& folder, uint64_t elems) {
  Peers peers;
  try_to_add("ggml", elems, peers, [&](std::vector<Peer>& found) {
    add_ggml(folder / "pywhispercpp.libs", elems, found);
  });
  try_to_add("FBGEMM", elems, peers,
             [&](std::vector<Peer>& found) { add_fbgemm(folder / "fbgemm_gpu", elems, found); });
  return peers;
}

}  // namespace slimccl::perf
