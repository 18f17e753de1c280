// Other people's quantizers on the CPU, loaded from the folder where `./dev bench codecs` installed
// them and called directly, as ours are. Nothing else in the project knows of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace slimccl::perf {

struct Peer {
  std::string name;  // "ggml q8_0"
  int bits;          // 8 or 4: which of our codecs it is compared with
  bool coarse;       // far fewer scales than our codec, hence far less accurate
  uint64_t encoded_bytes;
  std::function<void(const float* elems, uint8_t* encoded)> encode;
  std::function<void(const uint8_t* encoded, float* elems)> decode;
};

struct Peers {
  std::vector<Peer> found;
  std::vector<std::string> missing;  // "FBGEMM: ...": what could not be loaded, and why
};

// Peers for runs of `elems` elements, a multiple of 2048. The libraries stay loaded.
[[nodiscard]] Peers load_peers(const std::filesystem::path& folder, uint64_t elems);

}  // namespace slimccl::perf
