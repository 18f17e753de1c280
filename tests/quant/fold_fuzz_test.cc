// Random folds: every row writes the bytes of the scalar reference, and touches nothing but its
// sources and its sink, between which lie pages that cannot be accessed.
//
// A case depends on its seed alone, and the seed is part of every failure, crashes included.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "quant/pages.h"
#include "quant/q8.h"
#include "quant/samples.h"

namespace slimccl::quant::testing {
namespace {

constexpr int kCases = 5000;

class Random {
 public:
  explicit Random(uint64_t seed) : generator_(seed) {}
  uint64_t word() { return generator_(); }
  uint64_t below(uint64_t end) { return generator_() % end; }
  bool coin() { return below(2) == 1; }
  // From -1 to 1.
  float unit() { return static_cast<float>(static_cast<int64_t>(word())) * 0x1p-63f; }
  template <class T, size_t kCount>
  T of(const T (&values)[kCount]) {
    return values[below(kCount)];
  }

 private:
  std::mt19937_64 generator_;
};

// Where a run of elements may start: messages on 64 bytes, plain elements anywhere.
struct Place {
  uint64_t offset, align;
  bool at_end;
};

Place random_place(Random& random, Form form) {
  const uint64_t align = is_plain(form) ? plain_bytes(form) : kMessageAlign;
  const bool aligned = !is_plain(form) || random.coin();
  return {aligned ? 0 : random.below(32) * align, align, random.coin()};
}

std::unique_ptr<Pages> pages_at(const Place& place, uint64_t bytes) {
  return std::make_unique<Pages>(bytes, place.offset, place.at_end, place.align);
}

// Around what rounds, overflows or is special in one of the forms.
constexpr uint32_t kEdges[] = {
    0,          0x80000000, 1,          0x80000001, 0x00800000,  // zeros, denormals, 2^-126
    0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7f800001,  // infinities, NaN of all kinds
    0x7f7fffff, 0xff7fffff, 0x7f7f8000, 0x7f7f7fff,              // largest fp32, around bf16's
    0x477fe000, 0x477fefff, 0x477ff000, 0x38800000, 0x387fffff,  // fp16's largest and smallest
    0x33000000, 0x33000001, 0x3f800000};

constexpr int kFloatKinds = 7;

float random_float(Random& random, uint64_t kind) {
  constexpr float kMagnitudes[] = {1, 1e-40f, kMax};
  const auto bits = static_cast<uint32_t>(random.word());
  if (kind < 3) return random.unit() * kMagnitudes[kind];
  if (kind == 3) return random.coin() ? 0.0f : -0.0f;
  if (kind == 4) return float_of(random.of(kEdges));
  if (kind == 5) return static_cast<float>(random.below(33)) * 0.5f - 8;  // ties
  return float_of(bits);
}

float random_scale(Random& random) {
  constexpr float kScales[] = {1,     0,  -0.0f,    kInf,   -kInf,      kNan,
                               -kNan, -1, 0x1p127f, 1e-42f, 1.0f / 3.0f};
  return random.below(8) == 0 ? random_float(random, 6) : random.of(kScales);
}

// Runs of some 64 elements of one kind.
void fill_plain(Random& random, Form form, std::byte* into, uint64_t elems) {
  uint64_t kind = random.below(kFloatKinds);
  for (uint64_t i = 0; i < elems; ++i) {
    if (random.below(64) == 0) kind = random.below(kFloatKinds);
    const float value = random_float(random, kind);
    if (form == Form::kFp32) {
      std::memcpy(into + 4 * i, &value, 4);
      continue;
    }
    uint16_t half = form == Form::kBf16 ? float_to_bf16(value) : float_to_fp16(value);
    if (kind == 4 || random.below(8) == 0) half = static_cast<uint16_t>(bits_of(value) >> 16);
    std::memcpy(into + 2 * i, &half, 2);
  }
}

// Of either sign, with an exponent from `first` to `last`, as fp32 bits.
uint32_t bits_between(Random& random, uint64_t first, uint64_t last) {
  const uint64_t exponent = 127 + first + random.below(last - first + 1);
  return static_cast<uint32_t>(exponent << 23 | (random.word() & 0x807fffff));
}

// Scales from where decoding does not overflow to where it does; each superblock has a largest one.
void write_large_scales(Random& random, Form form, std::byte* message, uint64_t elems) {
  for (uint64_t s = 0; s < superblocks(elems); ++s) {
    if (form == Form::kQ4s) {
      const uint32_t factor = bits_between(random, 108, 118);
      std::memcpy(message + s * sizeof(factor), &factor, sizeof(factor));
      continue;
    }
    const uint64_t largest = 118 + random.below(6);
    for (uint64_t b = 0; b < Q8::kBlocks; ++b) {
      const auto scale = static_cast<uint16_t>(bits_between(random, 117, largest) >> 16);
      std::memcpy(message + s * Q8::kRecordBytes + b * sizeof(scale), &scale, sizeof(scale));
    }
  }
}

// What the reference wrote, or arbitrary bytes, or these with scales that matter.
void fill_message(Random& random, Codec codec, ncclDataType_t type, const Pages& into,
                  uint64_t elems) {
  if (random.below(3) == 0) {
    Buffer values(elems * sizeof(float));
    fill_plain(random, Form::kFp32, values.data(), elems);
    const Source source{values.data(), Codec::kFp32, 1};
    all_kernels().front().fold({&source, 1}, {into.data(), codec, false}, type, elems);
    return;
  }
  std::generate_n(into.data(), into.bytes(), [&] { return static_cast<std::byte>(random.word()); });
  if (random.coin()) write_large_scales(random, form_of(codec, type), into.data(), elems);
}

uint64_t random_elems(Random& random) {
  const uint64_t whole = kSuperblock * (1 + random.below(4));
  const uint64_t choices[] = {1 + random.below(100), 1 + random.below(kSuperblock), whole,
                              whole - 2 + random.below(5), whole + random.below(kSuperblock)};
  return random.of(choices);
}

struct Case {
  ncclDataType_t type = ncclFloat32;
  uint64_t elems = 0;
  Codec to = Codec::kTensor;
  bool saturate = false, streaming = false;
  Place place{};                        // of the sink
  const std::byte* in_place = nullptr;  // data of the source that the sink replaces
  std::vector<std::unique_ptr<Pages>> memory;
  std::vector<Source> sources;
};

void add_source(Random& random, Case& fold, Codec codec, bool scaled) {
  const Form form = form_of(codec, fold.type);
  const Place place = random_place(random, form);
  fold.memory.push_back(pages_at(place, encoded_bytes(codec, fold.type, fold.elems)));
  const Pages& pages = *fold.memory.back();
  if (is_plain(form)) {
    fill_plain(random, form, pages.data(), fold.elems);
  } else {
    fill_message(random, codec, fold.type, pages, fold.elems);
  }
  const float scale = scaled && random.coin() ? random_scale(random) : 1.0f;
  fold.sources.push_back({pages.data(), codec, scale});
}

Case random_case(Random& random) {
  constexpr ncclDataType_t kTypes[] = {ncclFloat32, ncclBfloat16, ncclFloat16};
  Case fold;
  fold.type = random.of(kTypes);
  fold.elems = random_elems(random);
  fold.to = random.of(kAllCodecs);
  fold.saturate = random.coin();
  fold.streaming = random.coin();
  const Form to = form_of(fold.to, fold.type);
  fold.place = random_place(random, to);
  const uint64_t most = fold.elems > 2 * kSuperblock ? 5 : 20;
  const uint64_t counts[] = {1, 2, 1 + random.below(most)};
  const uint64_t count = random.of(counts);
  const bool alike = random.coin(), scaled = random.coin();
  const Codec codec = random.of(kAllCodecs);
  for (uint64_t k = 0; k < count; ++k) {
    add_source(random, fold, alike ? codec : random.of(kAllCodecs), scaled);
  }
  const Source& candidate = fold.sources[random.below(count)];
  const Form form = form_of(candidate.codec, fold.type);
  const bool fits = is_plain(to) && is_plain(form) && plain_bytes(to) == plain_bytes(form);
  if (fits && random.coin()) fold.in_place = candidate.data;
  return fold;
}

void check(const Case& fold, const Kernels& kernels, const Buffer& expected) {
  const auto sink = pages_at(fold.place, expected.bytes());
  std::vector<Source> sources = fold.sources;
  if (fold.in_place) std::memcpy(sink->data(), fold.in_place, expected.bytes());
  for (Source& source : sources) {
    if (source.data == fold.in_place) source.data = sink->data();
  }
  kernels.fold(sources, {sink->data(), fold.to, fold.saturate, fold.streaming}, fold.type,
               fold.elems);
  const std::byte *got = sink->data(), *wanted = expected.data();
  const auto differs = std::mismatch(wanted, wanted + expected.bytes(), got).first - wanted;
  EXPECT_EQ(static_cast<uint64_t>(differs), expected.bytes()) << "the first byte that differs";
  EXPECT_TRUE(sink->rest_is_untouched());
}

// A fold that leaves its pages kills the process: the last words are the seed.
char last_words[64];
struct sigaction usual_end;

void say_last_words(int signal) {
  (void)!write(STDERR_FILENO, last_words, std::strlen(last_words));
  sigaction(signal, &usual_end, nullptr);
}

TEST(FoldFuzzTest, EveryRowGivesTheBytesOfTheReference) {
  struct sigaction speak = {};
  speak.sa_handler = say_last_words;
  sigaction(SIGSEGV, &speak, &usual_end);
  for (uint64_t seed = 1; seed <= kCases && !HasFailure(); ++seed) {
    std::snprintf(last_words, sizeof(last_words), "access outside of the buffers: seed %d\n",
                  static_cast<int>(seed));
    Random random(seed);
    const Case fold = random_case(random);
    const Buffer expected = testing::fold(all_kernels().front(), fold.sources, fold.to, fold.type,
                                          fold.elems, 0, fold.saturate);
    for (const Kernels& kernels : all_kernels()) {
      SCOPED_TRACE(::testing::Message()
                   << "seed " << seed << ": " << kernels.name << ", " << fold.sources.size()
                   << " sources to " << name(fold.to) << " of " << type_name(fold.type) << ", "
                   << fold.elems << " elements" << (fold.saturate ? ", saturating" : "")
                   << (fold.streaming ? ", streaming" : "") << (fold.in_place ? ", in place" : ""));
      check(fold, kernels, expected);
    }
  }
  sigaction(SIGSEGV, &usual_end, nullptr);
}

}  // namespace
}  // namespace slimccl::quant::testing
