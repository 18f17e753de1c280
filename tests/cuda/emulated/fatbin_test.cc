// The emulated driver's reading of the shipped fatbin: what it holds, and which device runs what.
#include "cuda/emulated/fatbin.h"

#include <gtest/gtest.h>

#include <cstring>

#include "quant/cuda/batch.h"
#include "quant/cuda/fatbin.h"

namespace slimccl::emulated {
namespace {

TEST(FatbinTest, HasEveryKernelForEveryArchitecture) {
  if (quant::fold_fatbin().empty()) GTEST_SKIP() << "built without nvcc";
  std::vector<int> cubins, ptx;
  for (const Image& image : read_fatbin(quant::fold_fatbin().data())) {
    (image.is_ptx ? ptx : cubins).push_back(image.capability);
    EXPECT_EQ(image.kernels.size(), std::size(quant::kFoldKernels)) << image.capability;
    for (const char* name : quant::kFoldKernels) {
      ASSERT_TRUE(image.kernels.contains(name)) << name << " " << image.capability;
      EXPECT_EQ(image.kernels.at(name).parameter_bytes, sizeof(quant::FoldBatch)) << name;
      EXPECT_EQ(image.kernels.at(name).max_threads, quant::kFoldThreads) << name;
    }
  }
  EXPECT_EQ(cubins, (std::vector<int>{80, 90, 100}));
  EXPECT_EQ(ptx, (std::vector<int>{80, 100}));
}

TEST(FatbinTest, ADeviceRunsItsMajorVersionsCubinOrElseTheNewestPtx) {
  const std::vector<Image> images = {
      {true, 80, {}}, {false, 80, {}}, {false, 90, {}}, {true, 100, {}}, {false, 100, {}}};
  struct Case {
    int capability, chosen;
  };
  for (const Case& c :
       {Case{75, -1}, {80, 1}, {86, 1}, {89, 1}, {90, 2}, {100, 4}, {103, 4}, {110, 3}, {120, 3}}) {
    const Image* image = choose_image(images, c.capability);
    EXPECT_EQ(image == nullptr ? -1 : image - images.data(), c.chosen) << c.capability;
  }
}

TEST(FatbinTest, WhatIsCutOffIsABadImage) {
  if (quant::fold_fatbin().empty()) GTEST_SKIP() << "built without nvcc";
  const auto* first = quant::fold_fatbin().data();
  std::vector<std::byte> cut(first, first + 2000);
  const uint64_t bytes = cut.size() - 16;
  std::memcpy(cut.data() + 8, &bytes, sizeof(bytes));
  EXPECT_THROW((void)read_fatbin(cut.data()), BadImage);
}

}  // namespace
}  // namespace slimccl::emulated
