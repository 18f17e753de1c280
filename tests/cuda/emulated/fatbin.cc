#include "cuda/emulated/fatbin.h"

#include <elf.h>

#include <cstring>
#include <regex>
#include <span>
#include <string_view>

namespace slimccl::emulated {
namespace {

using Data = std::span<const std::byte>;

struct FatbinHeader {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes;  // of the entries behind the header
};
constexpr uint32_t kFatbinMagic = 0xba55ed50;

struct EntryHeader {
  uint16_t kind, version;
  uint32_t header_bytes;
  uint64_t bytes;  // of the image behind the header
  uint32_t compressed_bytes, options_offset;
  uint16_t minor, major;
  uint32_t capability;
  uint32_t name_offset, name_bytes;
  uint64_t flags, unused, uncompressed_bytes;
};
static_assert(sizeof(EntryHeader) == 64);
constexpr uint16_t kPtxKind = 1, kCubinKind = 2;

// Attributes of a kernel in the cubin's section .nv.info.NAME.
constexpr uint8_t kMaxThreadsAttribute = 0x05, kParameterBytesAttribute = 0x19;
constexpr uint8_t kSizedFormat = 0x04;  // a 16-bit size and so many bytes; others are 16 bits

Data part(Data data, uint64_t offset, uint64_t bytes) {
  if (offset > data.size() || bytes > data.size() - offset) {
    throw BadImage("an image ends before what it says it holds");
  }
  return data.subspan(offset, bytes);
}

template <class T>
T read(Data data, uint64_t offset) {
  T value;
  std::memcpy(&value, part(data, offset, sizeof(T)).data(), sizeof(T));
  return value;
}

std::string_view text_of(Data data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

KernelInfo read_attributes(Data attributes) {
  KernelInfo info;
  for (uint64_t at = 0; at + 4 <= attributes.size();) {
    const auto format = read<uint8_t>(attributes, at),
               attribute = read<uint8_t>(attributes, at + 1);
    const auto value = read<uint16_t>(attributes, at + 2);
    if (attribute == kParameterBytesAttribute) info.parameter_bytes = value;
    if (attribute == kMaxThreadsAttribute) {
      info.max_threads = read<uint32_t>(attributes, at + 4) * read<uint32_t>(attributes, at + 8) *
                         read<uint32_t>(attributes, at + 12);
    }
    at += format == kSizedFormat ? 4u + value : 4u;
  }
  return info;
}

// A kernel is a section of code, .text.NAME, and its attributes beside it.
std::map<std::string, KernelInfo> read_cubin(Data cubin) {
  const auto header = read<Elf64_Ehdr>(cubin, 0);
  constexpr uint16_t kCudaMachine = 190;
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != kCudaMachine) {
    throw BadImage("a cubin is not an ELF file for CUDA");
  }
  const auto section = [&](uint64_t i) {
    return read<Elf64_Shdr>(cubin, header.e_shoff + i * sizeof(Elf64_Shdr));
  };
  const Elf64_Shdr names = section(header.e_shstrndx);
  const Data name_bytes = part(cubin, names.sh_offset, names.sh_size);
  std::map<std::string, KernelInfo> attributes, kernels;
  std::vector<std::string> code;
  for (uint64_t i = 1; i < header.e_shnum; ++i) {
    const Elf64_Shdr here = section(i);
    const Data rest = part(name_bytes, here.sh_name, name_bytes.size() - here.sh_name);
    const std::string name(text_of(rest).substr(0, text_of(rest).find('\0')));
    constexpr std::string_view kText = ".text.", kInfo = ".nv.info.";
    if (name.starts_with(kText) && here.sh_size > 0) code.push_back(name.substr(kText.size()));
    if (name.starts_with(kInfo)) {
      attributes[name.substr(kInfo.size())] =
          read_attributes(part(cubin, here.sh_offset, here.sh_size));
    }
  }
  for (const std::string& name : code) kernels[name] = attributes[name];
  return kernels;
}

std::map<std::string, KernelInfo> read_ptx(std::string_view text) {
  static const std::regex entry(R"(\.entry\s+(\w+)\s*\(\s*\.param[^\[\)]*\[(\d+)\])");
  static const std::regex threads(R"(\.maxntid\s+(\d+))");
  std::map<std::string, KernelInfo> kernels;
  using Match = std::match_results<std::string_view::const_iterator>;
  for (auto at = text.begin(); at != text.end();) {
    Match match;
    if (!std::regex_search(at, text.end(), match, entry)) break;
    KernelInfo& info = kernels[match[1]];
    info.parameter_bytes = std::stoull(match[2]);
    at = match[0].second;
    const auto body = std::find(at, text.end(), '{');
    if (std::regex_search(at, body, match, threads)) {
      info.max_threads = static_cast<unsigned>(std::stoul(match[1]));
    }
  }
  return kernels;
}

}  // namespace

std::vector<Image> read_fatbin(const void* fatbin) {
  FatbinHeader header;
  std::memcpy(&header, fatbin, sizeof(header));
  if (header.magic != kFatbinMagic || header.version != 1) throw BadImage("not a fatbin");
  const Data entries(static_cast<const std::byte*>(fatbin) + header.header_bytes, header.bytes);
  std::vector<Image> images;
  for (uint64_t at = 0; at < entries.size();) {
    const auto entry = read<EntryHeader>(entries, at);
    const Data bytes = part(entries, at + entry.header_bytes, entry.bytes);
    if (entry.kind != kPtxKind && entry.kind != kCubinKind)
      throw BadImage("an image of no known kind");
    if (entry.uncompressed_bytes > 0)
      throw BadImage("a compressed image; build with --no-compress");
    const bool is_ptx = entry.kind == kPtxKind;
    images.push_back({is_ptx, static_cast<int>(entry.capability),
                      is_ptx ? read_ptx(text_of(bytes)) : read_cubin(bytes)});
    at += entry.header_bytes + entry.bytes;
  }
  return images;
}

const Image* choose_image(const std::vector<Image>& images, int capability) {
  const Image* best = nullptr;
  for (const Image& image : images) {
    const bool runs = image.capability <= capability &&
                      (image.is_ptx || image.capability / 10 == capability / 10);
    const bool better = best == nullptr || (best->is_ptx && !image.is_ptx) ||
                        (best->is_ptx == image.is_ptx && best->capability < image.capability);
    if (runs && better) best = &image;
  }
  return best;
}

}  // namespace slimccl::emulated
