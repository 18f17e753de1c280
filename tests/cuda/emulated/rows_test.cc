// The two ways of running a launch of ours in the emulated driver: host rows leave the bytes in
// memory that the source twin leaves, and nothing that is out of a device's reach is touched. The
// first tests run both on this process's own emulated memory, the last ones load the driver.
#include "cuda/emulated/rows.h"

#include <algorithm>
#include <functional>

#include "cuda/emulated/kernel.h"
#include "cuda/emulated/memory.h"
#include "cuda/folds.h"
#include "cuda/gpu.h"

namespace slimccl::emulated {
namespace {

using quant::Codec;
using quant::Fold;
using quant::Source;
using quant::testing::is_message;
using quant::testing::unit_bytes;

const char* kernel_of(const quant::Launch& launch) {
  return quant::kFoldKernels[static_cast<int>(launch.to)];
}

// Live memory of device 0, which the test reads and writes as it likes. All is freed at the end.
class Bench {
 public:
  Bench() = default;
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  ~Bench() { memory().release_all(0); }

  // A device address; `offset` bytes of guard lie before it, and some behind the `bytes` bytes.
  std::byte* allocate(uint64_t bytes, uint64_t offset = 0) {
    const uint64_t all = offset + bytes + 64, address = memory().allocate(0, all);
    ranges_.emplace_back(memory().reach(0, address, all), all);
    std::memset(ranges_.back().data(), 0xa5, all);
    return reinterpret_cast<std::byte*>(address + offset);
  }
  static std::byte* host(const std::byte* address) {  // where the test finds the bytes
    return memory().reach(0, reinterpret_cast<uint64_t>(address), 1);
  }

  [[nodiscard]] std::vector<std::byte> contents() const {
    std::vector<std::byte> all;
    for (const auto& range : ranges_) all.insert(all.end(), range.begin(), range.end());
    return all;
  }
  void restore(const std::vector<std::byte>& all) const {
    const std::byte* from = all.data();
    for (const auto& range : ranges_) {
      std::memcpy(range.data(), from, range.size());
      from += range.size();
    }
  }

 private:
  std::vector<std::span<std::byte>> ranges_;
};

// How often the random folds had what makes them differ.
struct Seen {
  int strides = 0, device_scales = 0, saturates = 0, in_place = 0, several_jobs = 0,
      mixed_forms = 0;

  void count(const quant::FoldBatch& batch) {
    several_jobs += batch.job_count > 1;
    for (uint32_t j = 0; j < batch.job_count; ++j) count(batch, batch.jobs[j]);
  }
  void count(const quant::FoldBatch& batch, const quant::FoldJob& job) {
    saturates += job.saturate != 0;
    for (uint32_t r = job.first_run; r < uint32_t{job.first_run} + job.runs; ++r) {
      const quant::SourceRun& run = batch.runs[r];
      strides += run.count > 1;
      device_scales += run.device_scaled;
      in_place += run.data == job.sink;
      mixed_forms += r > job.first_run && run.form != batch.runs[r - 1].form;
    }
  }
};

// Folds whose every part is drawn: types, sources, sizes, places and bytes.
class RandomFolds {
 public:
  explicit RandomFolds(uint32_t seed) : random_(seed) {
    constexpr ncclDataType_t kTypes[] = {ncclFloat32, ncclBfloat16, ncclFloat16};
    const Codec to = quant::kAllCodecs[seed % 5];
    const uint64_t jobs = 1 + below(6);
    operands_.reserve(jobs);
    for (uint64_t j = 0; j < jobs; ++j) add(to, kTypes[below(3)]);
  }
  [[nodiscard]] std::vector<quant::Launch> launches() const { return quant::packed(folds_); }
  [[nodiscard]] const Bench& bench() const { return bench_; }

 private:
  struct Operands {
    std::vector<Source> sources;
    bool device_scaled[16];
  };

  uint64_t below(uint64_t limit) { return random_() % limit; }

  void add(Codec to, ncclDataType_t type) {
    constexpr uint64_t kElems[] = {1, 2, 31, 33, 100, 2047, 2048, 2049, 4100, 5001};
    const uint64_t elems = kElems[below(10)];
    Operands& of = operands_.emplace_back();
    for (uint64_t group = 1 + below(4); group > 0; --group) {
      add_group(of.sources, quant::kAllCodecs[below(5)], type, elems);
    }
    for (bool& flag : of.device_scaled) flag = below(3) == 0;
    const bool by_device = below(2) == 0;
    folds_.push_back({of.sources,
                      {sink_of(of.sources, to, type, elems), to, below(2) == 0},
                      type,
                      elems,
                      by_device ? scale(type) : nullptr,
                      {of.device_scaled, by_device ? of.sources.size() : 0}});
  }

  // Sources at equal distances, which become one run.
  void add_group(std::vector<Source>& sources, Codec codec, ncclDataType_t type, uint64_t elems) {
    constexpr float kScales[] = {1, 1, 0.125f, -1.0f / 3, 0, 1e30f};
    const uint64_t bytes = encoded_bytes(codec, type, elems), unit = unit_bytes(codec, type);
    const uint64_t count = 1 + below(4), stride = bytes + unit * below(3);
    std::byte* first = bench_.allocate(stride * (count - 1) + bytes, unit * below(16));
    const float scale = kScales[below(6)];
    const bool any_bits = below(2) == 0;
    for (uint64_t k = 0; k < count; ++k) {
      std::byte* data = first + k * stride;
      sources.push_back({data, codec, scale});
      any_bits ? fill(Bench::host(data), bytes) : encode(Bench::host(data), codec, type, elems);
    }
  }
  void fill(std::byte* into, uint64_t bytes) {  // messages that no encoder makes among them
    for (uint64_t i = 0; i < bytes; ++i) into[i] = static_cast<std::byte>(random_());
  }
  void encode(std::byte* into, Codec codec, ncclDataType_t type, uint64_t elems) {
    const auto values = quant::testing::specials(elems, static_cast<uint32_t>(random_()));
    const Source from = {reinterpret_cast<const std::byte*>(values.data()), Codec::kFp32, 1};
    quant::all_kernels().front().fold({&from, 1}, {into, codec, false}, type, elems);
  }

  // New memory, or a plain source's own.
  std::byte* sink_of(const std::vector<Source>& sources, Codec to, ncclDataType_t type,
                     uint64_t elems) {
    const quant::Form form = form_of(to, type);
    for (const Source& source : sources) {
      if (!is_plain(form) || form_of(source.codec, type) != form || below(4) != 0) continue;
      return const_cast<std::byte*>(source.data);
    }
    return bench_.allocate(encoded_bytes(to, type, elems), unit_bytes(to, type) * below(16));
  }

  const void* scale(ncclDataType_t type) {
    constexpr float kScales[] = {1, -0.3f, 1e-7f, 3e38f, quant::testing::kNan};
    const float value = kScales[below(5)];
    std::byte* element = bench_.allocate(4);
    const Source from = {reinterpret_cast<const std::byte*>(&value), Codec::kFp32, 1};
    quant::all_kernels().front().fold({&from, 1}, {Bench::host(element), Codec::kTensor, false},
                                      type, 1);
    return element;
  }

  std::mt19937 random_;
  Bench bench_;
  std::vector<Operands> operands_;
  std::vector<Fold> folds_;
};

// What memory holds after all launches, of all operands and what lies around them.
std::vector<std::byte> after(const RandomFolds& folds, const std::vector<std::byte>& before,
                             const std::function<void(const quant::Launch&)>& run) {
  folds.bench().restore(before);
  for (const quant::Launch& launch : folds.launches()) run(launch);
  return folds.bench().contents();
}

// rows.cc: each line of Launch::run() and scale_of().
TEST(RowsTest, LeaveTheBytesThatTheTwinLeaves) {
  if (const char* why = twin::unavailable()) GTEST_SKIP() << why;
  Seen seen;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    const RandomFolds folds(seed);
    const std::vector<std::byte> before = folds.bench().contents();
    std::mt19937 order(seed);
    const auto by_twin = after(folds, before, [&](const quant::Launch& launch) {
      run_twin_on(0, kernel_of(launch), launch.batch, order);
    });
    const auto by_rows = after(folds, before, [&](const quant::Launch& launch) {
      run_rows_on(0, kernel_of(launch), launch.batch);
      seen.count(launch.batch);
    });
    ASSERT_TRUE(by_twin != before && by_rows == by_twin) << "seed " << seed;
  }
  for (const int times : {seen.strides, seen.device_scales, seen.saturates, seen.in_place,
                          seen.several_jobs, seen.mixed_forms}) {
    EXPECT_GE(times, 20) << "the random folds have lost their variety";
  }
}

// One fold into one tensor may mix fp16 and bf16, which no tensor type of the host rows does.
TEST(RowsTest, EveryFormStandsBesideEveryOther) {
  if (const char* why = twin::unavailable()) GTEST_SKIP() << why;
  constexpr uint64_t kElems = 2100;
  Bench bench;
  quant::Launch launch = device::testing::conversion(
      bench.allocate(4 * kElems), Codec::kFp32, bench.allocate(4 * kElems), Codec::kFp32, kElems);
  for (uint16_t f = 1; f < 5; ++f) {
    std::byte* data = bench.allocate(4 * kElems);
    std::mt19937 random(f);
    for (uint64_t i = 0; i < 4 * kElems; ++i) Bench::host(data)[i] = std::byte(random() % 64);
    launch.batch.runs[f] = {data, 0, 1, static_cast<quant::Form>(f), false, 1};
  }
  launch.batch.jobs[0].runs = 5;
  const std::vector<std::byte> before = bench.contents();
  for (const char* kernel : quant::kFoldKernels) {
    std::mt19937 order(1);
    bench.restore(before);
    run_twin_on(0, kernel, launch.batch, order);
    const std::vector<std::byte> by_twin = bench.contents();
    bench.restore(before);
    run_rows_on(0, kernel, launch.batch);
    EXPECT_TRUE(by_twin != before && bench.contents() == by_twin) << kernel;
  }
}

// A good launch of one fold of fp32 tensors, to be made bad.
class BadLaunchTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kElems = 2048, kBytes = kElems * 4;

  void expect_death(const std::string& how) {
    EXPECT_DEATH(run_rows_on(device_, kernel_of(launch_), launch_.batch),
                 "kernel slimccl_fold_to_fp32 by host rows, job 0: " + how);
  }
  quant::SourceRun& run() { return launch_.batch.runs[0]; }
  quant::FoldJob& job() { return launch_.batch.jobs[0]; }

  Bench bench_;
  // Behind an operand are 64 bytes of the same allocation.
  std::byte *source_ = bench_.allocate(kBytes), *sink_ = bench_.allocate(kBytes);
  quant::Launch launch_ =
      device::testing::conversion(source_, Codec::kFp32, sink_, Codec::kFp32, kElems, 0.5f);
  int device_ = 0;
};

// rows.cc: reach() asks memory() for all bytes of each operand.
TEST_F(BadLaunchTest, ASourceEndsWithItsAllocation) {
  run().data = source_ + 64;
  run_rows_on(0, kernel_of(launch_), launch_.batch);
  run().data = source_ + 68;
  expect_death(
      "a read of 8192 bytes at 0x.*44, which device 0 may not touch: of device 0, 68 "
      "bytes into the nearest live allocation, at 0x.*00 of 8256 bytes");
}
TEST_F(BadLaunchTest, TheSecondSourceOfARunToo) {
  run().count = 2;
  run().stride_bytes = 68;
  expect_death("a read of 8192 bytes at 0x.*44, which device 0 may not touch");
}
TEST_F(BadLaunchTest, ASinkToo) {
  job().sink = sink_ + 68;
  expect_death("a write of 8192 bytes at 0x.*44, which device 0 may not touch");
}
TEST_F(BadLaunchTest, AMessageHasTheBytesOfItsCodec) {
  run().form = quant::Form::kQ8;
  job().elems = 4 * kElems;
  launch_.batch.superblocks = 4;
  job().sink = bench_.allocate(4 * kBytes);
  expect_death("a read of 8448 bytes");  // 4 records of 64 scales of 2 bytes, and 2048 codes
}
TEST_F(BadLaunchTest, AScaleInDeviceMemoryToo) {
  run().device_scaled = true;
  launch_.batch.device_scale = source_ + kBytes + 64;
  expect_death("a read of 4 bytes at 0x.*40, which device 0 may not touch");
}
TEST_F(BadLaunchTest, FreedAndPageableMemoryAndAnotherDevicesAreOutOfReach) {
  device_ = 1;
  expect_death("a read of 8192 bytes at 0x.* which device 1 may not touch: of device 0");
  device_ = 0;
  std::vector<std::byte> pageable(kBytes);
  run().data = pageable.data();
  expect_death("a read of .* it may be host memory");
  run().data = source_;
  memory().release_all(0);
  expect_death("a read of 8192 bytes");
}

TEST_F(BadLaunchTest, OperandsAreAligned) {
  run().data = source_ + 2;
  expect_death("the operand at 0x.*02 is not aligned to 4 bytes");
  run() = {source_ + 32, 0, 1, quant::Form::kQ4s, false, 1};
  expect_death("the operand at 0x.*20 is not aligned to 64 bytes");
}

// rows.cc: check_batch().
TEST_F(BadLaunchTest, JobsFillTheGrid) {
  launch_.batch.superblocks = 2;
  EXPECT_DEATH(run_rows_on(0, kernel_of(launch_), launch_.batch),
               "all jobs have 1 blocks, the grid has 2");
  job().first_superblock = 1;
  expect_death("its blocks do not begin where the last job's end");
  job().first_superblock = 0;
  job().runs = 0;
  expect_death("it has 0 runs of sources");
  launch_.batch.job_count = quant::kMaxJobs + 1;
  expect_death("the batch says that it has 49 jobs");
}

// The settings are read once a process, so each of these is a process, and nothing comes before.
class KernelsSettingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    if (quant::fold_fatbin().empty()) GTEST_SKIP() << "built without nvcc";
    if (const char* why = twin::unavailable()) GTEST_SKIP() << why;
  }
  // A launch on the loaded driver that writes one element too many.
  static void overrun_with(const char* value) {
    setenv("SLIMCCL_EMULATED_KERNELS", value, 1);
    using namespace device::testing;
    device::CUcontext context = nullptr;
    driver().cuDevicePrimaryCtxRetain(&context, 0);
    driver().cuCtxSetCurrent(context);
    const device::FoldKernels kernels(driver(), quant::fold_fatbin());
    const DeviceMemory source(8192), sink(8188);
    const quant::Launch launch = scaled_copy(source, sink, 2048);
    kernels.launch(nullptr, launch.to, launch.batch);
    driver().cuCtxSynchronize();
    std::exit(0);
  }
};

// kernel.cc: run_kernel_on().
TEST_F(KernelsSettingTest, ChoosesWhatRuns) {
  EXPECT_DEATH(overrun_with("rows"), "by host rows, job 0: a write of 8192 bytes");
  EXPECT_DEATH(overrun_with("twin"), "a write of (4|16) bytes");
  EXPECT_DEATH(overrun_with(""), "a write of (4|16) bytes");
}

// settings.cc: read_kernels().
TEST_F(KernelsSettingTest, OfAnotherValueIsAFault) {
  EXPECT_DEATH(overrun_with("fast"), "SLIMCCL_EMULATED_KERNELS=fast: expected twin or rows");
}

// meson.build: --exclude-libs, and the visibility of the core. The libraries under test, in the
// same process, have these functions too.
TEST(RowsLibraryTest, TheDriverKeepsItsHostRowsToItself) {
  void* const library = dlopen(device::testing::libcuda(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  EXPECT_NE(dlsym(library, "cuLaunchKernel"), nullptr);
  for (const char* name : {"_ZN7slimccl5quant12best_kernelsEv", "_ZN7slimccl5quant11all_kernelsEv",
                           "_ZN7slimccl5quant11vector_rowsEv"}) {
    EXPECT_EQ(dlsym(library, name), nullptr) << name;
  }
}

}  // namespace
}  // namespace slimccl::emulated
