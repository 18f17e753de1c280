// Reads what nvcc made: a fatbin holds images (cubins, which are ELF files, and PTX, which is
// text), each for one architecture. Enough of it to know which kernels are really in there, and
// what their launch must look like. Pure; throws BadImage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace slimccl::emulated {

struct BadImage : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct KernelInfo {
  size_t parameter_bytes = 0;
  unsigned max_threads = 1024;  // of a block
};

struct Image {
  bool is_ptx = false;
  int capability = 0;  // 80 is sm_80
  std::map<std::string, KernelInfo> kernels;
};

[[nodiscard]] std::vector<Image> read_fatbin(const void* fatbin);

// The image that a device of this capability runs: the cubin of its own major version with the
// largest minor version up to its own, else the newest PTX that is not newer. Null: none.
[[nodiscard]] const Image* choose_image(const std::vector<Image>& images, int capability);

}  // namespace slimccl::emulated
