// src/device/cuda against the emulated libcuda.so.1: the shipped fatbin's kernels, found by name
// and run on streams with random delays, give the bits of the host's reference row; and what goes
// wrong is told clearly.
#include <algorithm>
#include <functional>
#include <string>

#include "base/error.h"
#include "cuda/folds.h"
#include "cuda/gpu.h"

namespace slimccl::device::testing {
namespace {

using quant::Codec;
using quant::testing::Buffer;
using quant::testing::Group;
using quant::testing::TestFold;

// A fold with its operands on the device, aligned as on the host.
class DeviceFold {
 public:
  explicit DeviceFold(const TestFold& host) : host_(host.fold()), expected_(host.expected()) {
    for (const quant::Source& source : host_.sources) {
      const uint64_t bytes = quant::encoded_bytes(source.codec, host_.type, host_.elems);
      memory_.emplace_back(source.data, bytes, reinterpret_cast<uintptr_t>(source.data) % 64);
      sources_.push_back({memory_.back().pointer<std::byte>(), source.codec, source.scale});
    }
    const std::byte* sink = host_.sink.data;
    memory_.emplace_back(expected_.bytes(), reinterpret_cast<uintptr_t>(sink) % 64);
  }
  [[nodiscard]] quant::Fold fold() const {
    quant::Sink sink = host_.sink;
    sink.data = memory_.back().pointer<std::byte>();
    return {sources_, sink, host_.type, host_.elems};
  }
  [[nodiscard]] bool is_right() const {
    return std::memcmp(memory_.back().read().data(), expected_.data(), expected_.bytes()) == 0;
  }

 private:
  quant::Fold host_;
  Buffer expected_;
  std::vector<DeviceMemory> memory_;  // of the sources, and last of the sink
  std::vector<quant::Source> sources_;
};

// Folds into one form of sink, some of whose tensors have the 16-byte alignment and some have not.
std::vector<DeviceFold> folds_to(Codec to, ncclDataType_t type) {
  constexpr Codec kTensor = Codec::kTensor, kQ8 = Codec::kQ8, kQ4s = Codec::kQ4s;
  std::vector<DeviceFold> folds;
  folds.emplace_back(TestFold({{kTensor}}, to, type, 5000));
  folds.emplace_back(TestFold({{kTensor, 2, 0.37f, 1}}, to, type, 2048, 1));
  folds.emplace_back(TestFold({{kQ8, 2}, {kQ4s, 3, 1.5f}, {kTensor}}, to, type, 2049, 0, true));
  folds.emplace_back(TestFold({{kQ4s}}, to, type, 100, 3));
  folds.emplace_back(TestFold({{Codec::kFp32, 1, 1, 1}, {kQ8, 1, -3}}, to, type, 31, 1));
  return folds;
}

void launch(const FoldKernels& kernels, CUstream stream, const std::vector<DeviceFold>& folds) {
  std::vector<quant::Fold> jobs;
  for (const DeviceFold& fold : folds) jobs.push_back(fold.fold());
  const std::vector<quant::Launch> launches = quant::packed(jobs);
  EXPECT_EQ(launches.size(), 1u) << "several jobs of a launch are what is tested";
  for (const quant::Launch& each : launches) kernels.launch(stream, each.to, each.batch);
}

class DriverTest : public GpuTest {};

TEST_F(DriverTest, FoldsOfAllCodecsOnTwoStreamsGiveTheHostsBits) {
  const FoldKernels kernels(driver(), quant::fold_fatbin());
  kernels.prepare();
  const Stream one, two;
  for (const ncclDataType_t type : {ncclFloat32, ncclBfloat16, ncclFloat16}) {
    for (const Codec to : quant::kAllCodecs) {
      const std::vector<DeviceFold> first = folds_to(to, type), second = folds_to(to, type);
      launch(kernels, one, first);
      launch(kernels, two, second);
      one.synchronize();
      two.synchronize();
      for (size_t i = 0; i < first.size(); ++i) {
        EXPECT_TRUE(first[i].is_right() && second[i].is_right())
            << quant::type_name(type) << " to " << name(to) << ", fold " << i;
      }
    }
  }
}

// It is read when the kernel runs, not when it is launched: the copy that brings it is ahead.
TEST_F(DriverTest, AScaleInDeviceMemoryIsReadOnTheStream) {
  constexpr uint64_t kElems = 3000;
  const FoldKernels kernels(driver(), quant::fold_fatbin());
  const std::vector<float> values = quant::testing::noise(kElems, 3);
  const DeviceMemory tensor(values.data(), kElems * 4), scaled(kElems * 4), scale(4);
  driver().cuMemsetD8(scale.address(), 0, 4);
  driver().cuCtxSynchronize();
  const PinnedMemory half(4);
  *half.as<float>() = 0.5f;
  const quant::Source source{tensor.pointer<std::byte>(), Codec::kFp32, 1};
  const bool flag = true;
  const quant::Fold fold{{&source, 1},    {scaled.pointer<std::byte>(), Codec::kFp32, false},
                         ncclFloat32,     kElems,
                         scale.pointer(), {&flag, 1}};
  const Stream stream;
  driver().cuMemcpyHtoDAsync(scale.address(), half.as<float>(), 4, stream);
  const quant::Launch launch = quant::packed({&fold, 1}).front();
  kernels.launch(stream, launch.to, launch.batch);
  stream.synchronize();
  const std::vector<std::byte> bytes = scaled.read();
  for (uint64_t i = 0; i < kElems; ++i) {
    float got = 0;
    std::memcpy(&got, bytes.data() + i * 4, 4);
    ASSERT_EQ(got, values[i] * 0.5f) << i;
  }
}

// Encode on one stream, decode on another: the event is what orders them.
bool round_trip_is_right(const FoldKernels& kernels, bool with_event) {
  constexpr uint64_t kElems = 3000;
  const std::vector<float> values = quant::testing::noise(kElems, 7);
  const std::vector<float> wanted = quant::testing::through(Codec::kQ4s, values);
  const DeviceMemory tensor(values.data(), kElems * 4);
  const DeviceMemory message(quant::encoded_bytes(Codec::kQ4s, ncclFloat32, kElems));
  const DeviceMemory decoded(kElems * 4);
  driver().cuMemsetD8(message.address(), 0, quant::encoded_bytes(Codec::kQ4s, ncclFloat32, kElems));
  driver().cuCtxSynchronize();
  const Stream encoder, decoder;
  const Event encoded;
  const quant::Launch encode =
      conversion(tensor.pointer(), Codec::kFp32, message.pointer(), Codec::kQ4s, kElems);
  const quant::Launch decode =
      conversion(message.pointer(), Codec::kQ4s, decoded.pointer(), Codec::kFp32, kElems);
  kernels.launch(encoder, encode.to, encode.batch);
  driver().cuEventRecord(encoded, encoder);
  if (with_event) driver().cuStreamWaitEvent(decoder, encoded, 0);
  kernels.launch(decoder, decode.to, decode.batch);
  driver().cuCtxSynchronize();
  return std::memcmp(decoded.read().data(), wanted.data(), kElems * 4) == 0;
}

TEST_F(DriverTest, AnEventOrdersTwoStreamsAndItsAbsenceShows) {
  const FoldKernels kernels(driver(), quant::fold_fatbin());
  constexpr int kTimes = 30;
  int right_without = 0;
  for (int i = 0; i < kTimes; ++i) {
    EXPECT_TRUE(round_trip_is_right(kernels, true));
    right_without += round_trip_is_right(kernels, false);
  }
  EXPECT_LT(right_without, kTimes) << "random delays never broke what was not ordered";
}

// A process of its own, so that nobody has started CUDA before.
TEST(ContextTest, IsAskedForWithoutStartingCuda) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto ask = [] {
    const bool without_driver = has_context();
    void* const library = dlopen(libcuda(), RTLD_NOW);
    const bool with_driver = has_context();
    int devices = 0;
    const auto count = reinterpret_cast<CUresult (*)(int*)>(dlsym(library, "cuDeviceGetCount"));
    const bool started = count(&devices) == CUDA_SUCCESS;
    CUcontext context = nullptr;
    driver().cuDevicePrimaryCtxRetain(&context, 0);
    const bool none_is_current = has_context();
    driver().cuCtxSetCurrent(context);
    std::fprintf(stderr, "%d%d%d%d%d", without_driver, with_driver, started, none_is_current,
                 has_context());
    std::exit(0);
  };
  EXPECT_EXIT(ask(), ::testing::ExitedWithCode(0), "00001");
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(DriverErrorTest, SaysWhatIsWrongWithTheLibrary) {
  EXPECT_THAT(error_of([] { Driver("libslimccl_no_such.so.1"); }),
              AllOf(HasSubstr("no CUDA driver"), HasSubstr("libslimccl_no_such.so.1")));
  EXPECT_THAT(error_of([] { Driver(OLD_LIBCUDA); }),
              AllOf(HasSubstr("too old"), HasSubstr("CUDA 11.4"), HasSubstr("12.0")));
  EXPECT_THAT(error_of([] { Driver(BARE_LIBCUDA); }),
              AllOf(HasSubstr("lacks cuInit"), HasSubstr("update")));
  EXPECT_THAT(error_of([] { Driver("libm.so.6"); }), HasSubstr("no cuDriverGetVersion"));
  EXPECT_THAT(error_of([] { Driver(FAILING_LIBCUDA); }),
              AllOf(HasSubstr("not a working CUDA driver"), HasSubstr("result 34"),
                    HasSubstr("stub"), ::testing::Not(HasSubstr("too old"))));
}

TEST(DriverErrorTest, ABuildWithoutNvccSaysSo) {
  EXPECT_THAT(error_of([] { FoldKernels(driver(), {}); }), HasSubstr("built without nvcc"));
}

TEST_F(DriverTest, AFailingCallIsNamedWithItsResultAndDevice) {
  const DeviceMemory source(4096), sink(4096);
  const auto fail = SLIMCCL_CONTROL(slimccl_emulated_fail);
  const Stream stream;
  for (const char* name :
       {"cuLibraryLoadData", "cuLibraryGetKernel", "cuKernelGetFunction", "cuLaunchKernel"}) {
    fail(name, 1, CUDA_ERROR_LAUNCH_FAILED);
    EXPECT_EQ(error_of([&] {
                const FoldKernels kernels(driver(), quant::fold_fatbin());
                kernels.prepare();
                const quant::Launch copy = scaled_copy(source, sink, 1024);
                kernels.launch(stream, copy.to, copy.batch);
              }),
              std::string(name) +
                  " failed on device 0: CUDA_ERROR_LAUNCH_FAILED (719): says the emulated driver");
    fail(name, 0, 0);
  }
  fail("cuLibraryGetKernel", 1, 12345);
  EXPECT_THAT(error_of([&] { FoldKernels(driver(), quant::fold_fatbin()); }),
              HasSubstr("unknown result (12345)"));
  fail("cuLibraryGetKernel", 0, 0);
}

// The images of a fatbin, headers included, one after the other behind the fatbin's own header.
std::vector<std::span<std::byte>> images_of(std::span<std::byte> fatbin) {
  struct ImageHeader {
    uint16_t kind, version;
    uint32_t header_bytes;
    uint64_t bytes;
  };
  constexpr size_t kFatbinHeaderBytes = 16;
  std::vector<std::span<std::byte>> images;
  for (auto rest = fatbin.subspan(kFatbinHeaderBytes); rest.size() >= sizeof(ImageHeader);) {
    ImageHeader header;
    std::memcpy(&header, rest.data(), sizeof(header));
    images.push_back(rest.first(header.header_bytes + header.bytes));
    rest = rest.subspan(images.back().size());
  }
  return images;
}

void rename_kernel(std::span<std::byte> image, const std::string& name) {
  const auto bytes = std::as_bytes(std::span(name));
  for (auto at = image.begin();;) {
    at = std::search(at, image.end(), bytes.begin(), bytes.end());
    if (at == image.end()) break;
    at[static_cast<long>(name.size()) - 1] = std::byte{'9'};
  }
}

// emulated/calls_library.cc: cuLibraryGetKernel() asks every image, not only the device's own.
TEST_F(DriverTest, AnImageWithoutOneOfTheKernelsIsRefused) {
  const ConstBytes shipped = quant::fold_fatbin();
  std::vector<std::byte> changed(shipped.begin(), shipped.end());
  const size_t images = images_of(changed).size();
  EXPECT_GT(images, 1u);
  for (size_t i = 0; i < images; ++i) {
    changed.assign(shipped.begin(), shipped.end());
    rename_kernel(images_of(changed)[i], "slimccl_fold_to_q8");
    EXPECT_THAT(error_of([&] { FoldKernels(driver(), changed); }),
                AllOf(HasSubstr("no kernel slimccl_fold_to_q8"), HasSubstr("build SlimCCL again")))
        << "image " << i;
  }
}

TEST_F(DriverTest, WhatIsNoFatbinIsRefused) {
  const std::vector<std::byte> garbage(1000, std::byte{0x5a});
  EXPECT_THAT(error_of([&] { FoldKernels(driver(), garbage); }),
              HasSubstr("cuLibraryLoadData failed on device 0: CUDA_ERROR_INVALID_IMAGE (200)"));
  const ConstBytes shipped = quant::fold_fatbin();
  std::vector<std::byte> broken(shipped.begin(), shipped.end());
  std::fill(broken.begin() + 16, broken.begin() + 64, std::byte{0});
  EXPECT_THAT(error_of([&] { FoldKernels(driver(), broken); }), HasSubstr("INVALID_IMAGE"));
}

// The settings are read once a process, so each of these is a process, and nothing comes before.
TEST(DriverErrorTest, ADeviceWithoutCodeIsFoundAtSetUp) {
  if (quant::fold_fatbin().empty()) GTEST_SKIP() << "built without nvcc";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto prepare_on = [](const char* capability) {
    setenv("SLIMCCL_EMULATED_CAPABILITY", capability, 1);
    CUcontext context = nullptr;
    driver().cuDevicePrimaryCtxRetain(&context, 0);
    driver().cuCtxSetCurrent(context);
    std::fputs(error_of([] { FoldKernels(driver(), quant::fold_fatbin()).prepare(); }).c_str(),
               stderr);
    std::exit(0);
  };
  EXPECT_EXIT(prepare_on("75"), ::testing::ExitedWithCode(0), "CUDA_ERROR_NO_BINARY_FOR_GPU");
  EXPECT_EXIT(prepare_on("86"), ::testing::ExitedWithCode(0), "no error");
  EXPECT_EXIT(prepare_on("120"), ::testing::ExitedWithCode(0), "no error");
}

}  // namespace
}  // namespace slimccl::device::testing
