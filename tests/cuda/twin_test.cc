// The CUDA kernels' source, run on the CPU, gives the bytes of the host's reference row: whatever
// is folded, wherever it lies, in both orders of warps, touching its own memory only.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "cuda/folds.h"
#include "cuda/twin/kernels.h"
#include "cuda/twin/memory.h"

namespace slimccl::quant::testing {
namespace {

constexpr ncclDataType_t kTypes[] = {ncclFloat32, ncclBfloat16, ncclFloat16};
constexpr float kScales[] = {1, 0.125f, -1.0f / 3, 0, 1e30f};
constexpr twin::WarpOrder kOrders[] = {twin::WarpOrder::kForward, twin::WarpOrder::kBackward};

class TwinTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* reason = twin::unavailable()) GTEST_SKIP() << reason;
  }
};

void allow(std::vector<twin::Range>& ranges, const Fold& fold) {
  for (const Source& source : fold.sources) {
    ranges.push_back(
        {source.data, encoded_bytes(source.codec, fold.type, fold.elems), /*writable=*/false});
  }
  ranges.push_back({fold.sink.data, encoded_bytes(fold.sink.codec, fold.type, fold.elems), true});
  if (fold.device_scale != nullptr)
    ranges.push_back({fold.device_scale, type_bytes(fold.type), /*writable=*/false});
}

void launch(const std::vector<Fold>& folds, twin::WarpOrder order) {
  std::vector<twin::Range> ranges;
  for (const Fold& fold : folds) allow(ranges, fold);
  const twin::OnlyMemory only(ranges);
  for (const Launch& launch : packed(folds)) {
    twin::run_twin(kFoldKernels[static_cast<int>(launch.to)], launch.batch, order);
  }
}

void same_as_host(const TestFold& test) {
  const Buffer wanted = test.expected();
  for (const twin::WarpOrder order : kOrders) {
    test.sink().fill();
    launch({test.fold()}, order);
    const Fold fold = test.fold();
    const char* complaint = test.complaint(wanted);
    ASSERT_EQ(complaint, nullptr) << complaint << ": " << fold.sources.size()
                                  << " sources, the first " << name(fold.sources[0].codec)
                                  << " times " << fold.sources[0].scale << ", to "
                                  << name(fold.sink.codec) << " of " << type_name(fold.type) << ", "
                                  << fold.elems << " elements at "
                                  << static_cast<const void*>(fold.sink.data)
                                  << (fold.sink.saturate ? ", saturating" : "")
                                  << (order == twin::WarpOrder::kForward ? "" : ", warps backward");
  }
}

TEST_F(TwinTest, EverySourceSinkTypeAndSize) {
  uint64_t turn = 0;
  for (const Codec from : kAllCodecs) {
    for (const Codec to : kAllCodecs) {
      for (const ncclDataType_t type : kTypes) {
        for (const uint64_t elems : {1, 31, 33, 64, 100, 2047, 2048, 2049, 5000}) {
          for (const bool saturate : {false, true}) {
            const uint64_t count = 1 + turn % 5, offset = turn % 16;
            const float scale = kScales[turn++ % 4];
            ASSERT_NO_FATAL_FAILURE(same_as_host(TestFold({{from, count, scale, offset}}, to, type,
                                                          elems, offset * 5 % 16, saturate)));
          }
        }
      }
    }
  }
}

TEST_F(TwinTest, EveryOffsetAndNumberOfSources) {
  for (const ncclDataType_t type : kTypes) {
    for (const Codec to : {Codec::kTensor, Codec::kFp32, Codec::kQ8, Codec::kQ4s}) {
      for (uint64_t offset = 0; offset < 16; ++offset) {
        for (uint64_t count = 1; count <= 5; ++count) {
          const float scale = kScales[count % 5];
          ASSERT_NO_FATAL_FAILURE(same_as_host(TestFold({{Codec::kTensor, count, scale, offset}},
                                                        to, type, 2500, (offset + count) % 16)));
        }
      }
    }
  }
}

TEST_F(TwinTest, RunsOfAllForms) {
  const std::vector<Group> groups = {{Codec::kQ4s, 3, 0.5f},   {Codec::kTensor, 2, 1, 3},
                                     {Codec::kFp32, 1, -2, 1}, {Codec::kQ8, 4, 1},
                                     {Codec::kBf16, 2, 3, 7},  {Codec::kQ4s, 1, 1}};
  for (const Codec to : kAllCodecs) {
    for (const ncclDataType_t type : kTypes) {
      for (const uint64_t elems : {77, 4444}) {
        ASSERT_NO_FATAL_FAILURE(same_as_host(TestFold(groups, to, type, elems, 5)));
      }
    }
  }
}

// A scale that the kernel reads, of one element of the tensor's type; and its value.
struct DeviceScale {
  DeviceScale(float wanted, ncclDataType_t type) {
    const Source from = {reinterpret_cast<const std::byte*>(&wanted), Codec::kFp32, 1};
    all_kernels().front().fold({&from, 1}, {element, Codec::kTensor, false}, type, 1);
    const Source to = {element, Codec::kTensor, 1};
    auto* const into = reinterpret_cast<std::byte*>(&value);
    all_kernels().front().fold({&to, 1}, {into, Codec::kFp32, false}, type, 1);
  }
  alignas(4) std::byte element[4] = {};
  float value = 0;
};

// The bytes are those of the same scale by value: of all sources or of some, and of a single one to
// its own form, where 1 makes it a copy. What a scaled source's own scale is does not count.
TEST_F(TwinTest, AScaleInDeviceMemory) {
  constexpr uint64_t kElems = 4100;
  const Buffer data(kElems * 4, 4);  // any bits
  std::mt19937 generator(7);
  for (uint64_t i = 0; i < kElems; ++i) data.as<uint32_t>()[i] = static_cast<uint32_t>(generator());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ncclDataType_t type : kTypes) {
    for (const float wanted : {1.0f, -1.0f / 3, 0.0f, 1e-7f, 3e38f, nan}) {
      const DeviceScale scale(wanted, type);
      for (const Codec to : kAllCodecs) {
        for (const Codec from : kAllCodecs) {
          const TestFold other({{from, 2, -2}}, to, type, kElems);
          for (const uint64_t scaled : {1, 2, 4, 7}) {  // one bit for each source
            std::vector<Source> given = other.sources(), by_value;
            if (from == Codec::kTensor || from == Codec::kFp32)
              given.push_back({data.data(), from, -2});
            if (scaled == 1) given = {given.back()};
            bool flags[3] = {};
            for (uint64_t i = 0; i < given.size(); ++i) {
              flags[i] = (scaled >> i & 1) != 0;
              by_value.push_back({given[i].data, from, flags[i] ? scale.value : given[i].scale});
            }
            const Buffer sum = fold(all_kernels().front(), by_value, to, type, kElems);
            const Guarded sink(sum.bytes(), 0);
            launch({{given,
                     {sink.data(), to, false},
                     type,
                     kElems,
                     scale.element,
                     std::span<const bool>(flags, given.size())}},
                   kOrders[scaled % 2]);
            ASSERT_EQ(std::memcmp(sink.data(), sum.data(), sum.bytes()), 0)
                << name(from) << " to " << name(to) << " of " << type_name(type) << ", scale "
                << wanted << " of " << scaled;
          }
        }
      }
    }
  }
}

TEST_F(TwinTest, HundredsOfSources) {
  for (const Codec from : {Codec::kQ8, Codec::kQ4s}) {
    ASSERT_NO_FATAL_FAILURE(same_as_host(TestFold({{from, 300, 1}}, from, ncclFloat32, 300)));
  }
}

// The factors of 16 superblocks fill a line of 64 bytes.
TEST_F(TwinTest, HeadsOfAnyNumberOfSuperblocks) {
  for (const uint64_t superblocks : {2, 15, 16, 17, 33}) {
    for (const uint64_t elems : {superblocks * kSuperblock, superblocks * kSuperblock - 2000}) {
      ASSERT_NO_FATAL_FAILURE(
          same_as_host(TestFold({{Codec::kQ4s, 2, 1}}, Codec::kQ4s, ncclFloat32, elems)));
    }
  }
}

// Random bit patterns: every exponent, denormals and NaN included, meets every other. With one
// source to its own form this is a copy, which keeps the payloads of NaN.
TEST_F(TwinTest, AnyBits) {
  constexpr uint64_t kElems = 6 * kSuperblock + 5;
  std::mt19937 generator(5);
  const Buffer a(kElems * 4, 4), b(kElems * 4, 4);
  for (const Buffer* buffer : {&a, &b}) {
    for (uint64_t i = 0; i < kElems; ++i) {
      buffer->as<uint32_t>()[i] = static_cast<uint32_t>(generator());
    }
  }
  for (const Codec to : kAllCodecs) {
    for (const ncclDataType_t type : kTypes) {
      for (const float scale : {1.0f, 3.0f}) {
        for (const Codec from : {Codec::kTensor, Codec::kFp32}) {
          for (const uint64_t offset : {0, 1}) {
            const Source first = {a.data(), from, scale}, second = {b.data(), from, 1};
            for (const std::vector<Source>& sources :
                 {std::vector<Source>{first}, std::vector<Source>{first, second}}) {
              const Buffer wanted = fold(all_kernels().front(), sources, to, type, kElems);
              const Guarded sink(wanted.bytes(),
                                 is_message(to) ? 0 : offset * unit_bytes(to, type));
              launch({{sources, {sink.data(), to, false}, type, kElems}}, kOrders[offset]);
              ASSERT_EQ(std::memcmp(sink.data(), wanted.data(), wanted.bytes()), 0)
                  << name(from) << " to " << name(to) << " of " << type_name(type) << ", "
                  << sources.size() << " sources, scale " << scale << ", offset " << offset;
            }
          }
        }
      }
    }
  }
}

// Messages that no encoder makes: any scale with any code, so that products overflow.
TEST_F(TwinTest, AnyMessage) {
  constexpr uint64_t kElems = 20 * kSuperblock + 99;
  std::mt19937 generator(6);
  for (const Codec from : {Codec::kQ8, Codec::kQ4s}) {
    const Buffer message(encoded_bytes(from, ncclFloat32, kElems));
    for (uint64_t i = 0; i < message.bytes(); ++i) {
      message.as<uint8_t>()[i] = static_cast<uint8_t>(generator());
    }
    // Factors that are as large as can be, but finite: few random ones are.
    if (from == Codec::kQ4s) {
      for (uint64_t i = 0; i < 10; ++i) message.as<float>()[i] = 1e38f;
    }
    for (const Codec to : kAllCodecs) {
      const std::vector<Source> sources = {{message.data(), from, 0.5f}};
      const Buffer wanted = fold(all_kernels().front(), sources, to, ncclFloat16, kElems);
      const Guarded sink(wanted.bytes(), 0);
      launch({{sources, {sink.data(), to, false}, ncclFloat16, kElems}}, kOrders[0]);
      ASSERT_EQ(std::memcmp(sink.data(), wanted.data(), wanted.bytes()), 0)
          << name(from) << " to " << name(to);
    }
  }
}

TEST_F(TwinTest, TheSinkMayBeAPlainSource) {
  constexpr uint64_t kElems = 4500;
  for (const ncclDataType_t type : kTypes) {
    const Codec half = type == ncclFloat16 ? Codec::kBf16 : Codec::kTensor;  // another form as well
    for (uint64_t same = 0; same < 3; ++same) {
      for (const uint64_t offset : {0, 1, 4}) {
        const TestFold test({{Codec::kTensor, 2, 0.5f, offset}, {half, 1, 1, offset}},
                            Codec::kTensor, type, kElems);
        const Buffer wanted = test.expected();
        Fold fold = test.fold();
        fold.sink.data = const_cast<std::byte*>(fold.sources[same].data);
        launch({fold}, kOrders[same % 2]);
        ASSERT_EQ(std::memcmp(fold.sink.data, wanted.data(), wanted.bytes()), 0)
            << type_name(type) << ", source " << same << ", offset " << offset;
      }
    }
  }
}

TEST_F(TwinTest, ManyJobsInOneLaunch) {
  for (const Codec to : kAllCodecs) {
    std::vector<TestFold> tests;
    for (uint64_t i = 0; i < kMaxJobs; ++i) {
      tests.emplace_back(std::vector<Group>{{kAllCodecs[i % 5], 1 + i % 3, kScales[i % 4], i % 16},
                                            {kAllCodecs[i % 3], 1, 1, i % 7}},
                         to, kTypes[i % 3], 1 + i * 97 % 4200, i % 16, i % 2 == 0);
    }
    std::vector<Fold> folds;
    for (const TestFold& test : tests) folds.push_back(test.fold());
    for (const twin::WarpOrder order : kOrders) {
      for (const TestFold& test : tests) test.sink().fill();
      launch(folds, order);
      for (uint64_t i = 0; i < tests.size(); ++i) {
        ASSERT_EQ(tests[i].complaint(tests[i].expected()), nullptr) << name(to) << ", job " << i;
      }
    }
  }
}

}  // namespace
}  // namespace slimccl::quant::testing
