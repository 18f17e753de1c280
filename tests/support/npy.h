// Reads the .npy files under tests/data: little-endian fp32 in C order, and nothing else.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace slimccl::testing {

// A path below tests/data; Meson tells the tests where that is.
inline std::string data_path(const std::string& name) {
  const char* folder = std::getenv("SLIMCCL_TEST_DATA");
  if (folder == nullptr) throw std::runtime_error("SLIMCCL_TEST_DATA is not set: run under meson");
  return std::string(folder) + "/" + name;
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The elements, whatever the shape.
inline std::vector<float> read_npy(const std::string& path) {
  const std::string text = read_file(path);
  const auto need = [&](bool holds, const std::string& what) {
    if (!holds) throw std::runtime_error(path + ": " + what);
  };
  need(text.size() >= 10 && text.compare(0, 6, "\x93NUMPY") == 0, "not a .npy file");
  need(text[6] == 1, "only version 1 of the .npy format is read");
  uint16_t header_bytes;
  std::memcpy(&header_bytes, text.data() + 8, sizeof(header_bytes));
  const size_t start = size_t{10} + header_bytes;
  need(text.size() >= start, "cut off within the header");
  const std::string header = text.substr(10, header_bytes);
  need(header.find("'descr': '<f4'") != std::string::npos, "elements are not little-endian fp32");
  need(header.find("'fortran_order': False") != std::string::npos, "not in C order");
  const size_t open = header.find('('), close = header.find(')');
  need(open != std::string::npos && close != std::string::npos, "no shape in the header");
  size_t elems = 1;
  for (size_t at = open + 1; (at = header.find_first_of("0123456789", at)) < close;) {
    size_t digits = 0;
    elems *= std::stoull(header.substr(at), &digits);
    at += digits;
  }
  need(text.size() - start == elems * sizeof(float), "size and shape disagree");
  std::vector<float> values(elems);
  std::memcpy(values.data(), text.data() + start, elems * sizeof(float));
  return values;
}

}  // namespace slimccl::testing
