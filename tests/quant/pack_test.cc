// From folds to launches of the CUDA kernels: what is joined, what fits, what is refused.
#include "quant/cuda/pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "quant/samples.h"

namespace slimccl::quant::testing {
namespace {

using ::testing::HasSubstr;

// Any address: nothing here is ever read.
std::byte* at(uint64_t address) {
  return reinterpret_cast<std::byte*>(static_cast<uintptr_t>(address));
}
Source q8(uint64_t address, float scale = 1) { return {at(address), Codec::kQ8, scale}; }
Source tensor(uint64_t address) { return {at(address), Codec::kTensor, 1}; }
Sink sink(Codec codec) { return {at(1 << 20), codec, false}; }

// What a launch would fold, in its order: the runs written out again.
std::vector<Source> written_out(const std::vector<SourceRun>& runs) {
  std::vector<Source> sources;
  for (const SourceRun& run : runs) {
    for (uint64_t k = 0; k < run.count; ++k) {
      const Codec codec = run.form == Form::kQ8 ? Codec::kQ8 : Codec::kFp32;
      sources.push_back(
          {static_cast<const std::byte*>(run.data) + k * run.stride_bytes, codec, run.scale});
    }
  }
  return sources;
}

std::string error_of(const Fold& fold) {
  try {
    static_cast<void>(packed({&fold, 1}));
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(MergedTest, EqualDistancesAreOneRun) {
  const std::vector<Source> sources = {q8(0x1000), q8(0x3000), q8(0x5000), q8(0x7000)};
  const auto runs = merged(sources, ncclFloat32);
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].data, at(0x1000));
  EXPECT_EQ(runs[0].stride_bytes, 0x2000u);
  EXPECT_EQ(runs[0].count, 4);
  EXPECT_EQ(runs[0].form, Form::kQ8);
  EXPECT_EQ(runs[0].scale, 1);
}

TEST(MergedTest, AnythingElseBeginsARun) {
  const std::vector<Source> sources = {
      q8(0x1000),       q8(0x2000),       q8(0x3000),      // a run
      q8(0x5000),                                          // another distance
      q8(0x6000, 0.5f), q8(0x7000),                        // another scale, and back
      tensor(0x8000),   tensor(0x9000),                    // another form
      tensor(0x7000),   tensor(0x7000),   tensor(0x7000),  // backwards, then the same one again
      q8(0x7000, 0.0f), q8(0x8000, -0.0f)};                // equal, but not the same bits
  const auto runs = merged(sources, ncclFloat32);
  std::vector<int> counts;
  for (const SourceRun& run : runs) counts.push_back(run.count);
  EXPECT_EQ(counts, (std::vector<int>{3, 1, 1, 1, 2, 3, 1, 1}));
  const auto again = written_out(runs);
  ASSERT_EQ(again.size(), sources.size());
  for (uint64_t i = 0; i < sources.size(); ++i) {
    EXPECT_EQ(again[i].data, sources[i].data) << i;
    EXPECT_EQ(bits(again[i].scale), bits(sources[i].scale)) << i;
  }
}

TEST(MergedTest, TheFormIsTheTensorsTypes) {
  const Source source = tensor(0x1002);
  EXPECT_EQ(merged({&source, 1}, ncclBfloat16)[0].form, Form::kBf16);
  EXPECT_EQ(merged({&source, 1}, ncclFloat16)[0].form, Form::kFp16);
}

TEST(MergedTest, ARunCountsTo65535) {
  std::vector<Source> sources;
  for (uint64_t i = 0; i < 70000; ++i) sources.push_back(q8(0x1000 + i * 64));
  const auto runs = merged(sources, ncclFloat32);
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].count, 65535);
  EXPECT_EQ(runs[1].count, 70000 - 65535);
  EXPECT_EQ(runs[1].data, sources[65535].data);
}

TEST(MergedTest, AScaleFromTheDeviceBeginsARun) {
  const std::vector<Source> sources = {q8(0x1000), q8(0x2000), q8(0x3000, 2), q8(0x4000, 3)};
  const bool flags[] = {false, true, true, true};
  const auto runs = merged(sources, ncclFloat32, flags);
  ASSERT_EQ(runs.size(), 2u);  // what the flagged ones' own scales are is nobody's business
  EXPECT_FALSE(runs[0].device_scaled);
  EXPECT_EQ(runs[0].count, 1);
  EXPECT_TRUE(runs[1].device_scaled);
  EXPECT_EQ(runs[1].count, 3);
}

TEST(PackedTest, SinksOfOneFormShareALaunch) {
  const std::vector<Source> two = {q8(0x1000), tensor(0x2004)};
  const std::vector<Fold> folds = {{two, sink(Codec::kQ8), ncclFloat32, 5000},
                                   {two, sink(Codec::kTensor), ncclFloat32, 1},
                                   {two, sink(Codec::kQ8), ncclFloat32, 0},
                                   {two, {at(1 << 21), Codec::kQ8, true}, ncclFloat32, 2048}};
  const auto launches = packed(folds);
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[0].to, Form::kQ8);
  EXPECT_EQ(launches[1].to, Form::kFp32);
  const FoldBatch& batch = launches[0].batch;
  EXPECT_EQ(batch.job_count, 2u);
  EXPECT_EQ(batch.superblocks, 3u + 1);
  EXPECT_EQ(batch.jobs[0].elems, 5000u);
  EXPECT_EQ(batch.jobs[0].saturate, 0u);
  EXPECT_EQ(batch.jobs[1].sink, at(1 << 21));
  EXPECT_EQ(batch.jobs[1].first_superblock, 3u);
  EXPECT_EQ(batch.jobs[1].first_run, 2);
  EXPECT_EQ(batch.jobs[1].runs, 2);
  EXPECT_EQ(batch.jobs[1].saturate, 1u);
  EXPECT_EQ(batch.runs[3].data, at(0x2004));
  EXPECT_EQ(launches[1].batch.superblocks, 1u);
}

TEST(PackedTest, AFullLaunchIsFollowedByAnother) {
  const std::vector<Source> one = {q8(0x1000)}, three = {q8(0x1000), tensor(0x2000), q8(0x3000)};
  const std::vector<Fold> many(100, {one, sink(Codec::kBf16), ncclFloat32, 2049});
  std::vector<uint32_t> jobs;
  for (const Launch& launch : packed(many)) jobs.push_back(launch.batch.job_count);
  EXPECT_EQ(jobs, (std::vector<uint32_t>{kMaxJobs, kMaxJobs, 100 - 2 * kMaxJobs}));

  std::vector<Fold> long_ones(33, {three, sink(Codec::kBf16), ncclFloat32, 1});
  long_ones.push_back({one, sink(Codec::kBf16), ncclFloat32, 1});
  const auto launches = packed(long_ones);
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[0].batch.job_count, kMaxRuns / 3);
  EXPECT_EQ(launches[1].batch.job_count, 2u);
}

// A launch reads one scale, in one form.
TEST(PackedTest, AScaleInDeviceMemoryIsOfTheWholeLaunch) {
  const std::vector<Source> one = {q8(0x1000)};
  const bool flag[] = {true};
  const Sink to = sink(Codec::kQ8);
  const auto launches = packed(std::vector<Fold>{{one, to, ncclFloat16, 1, at(0x10), flag},
                                                 {one, to, ncclFloat16, 1, at(0x12), flag},
                                                 {one, to, ncclBfloat16, 1, at(0x10), flag},
                                                 {one, to, ncclFloat16, 1},
                                                 {one, to, ncclBfloat16, 1},
                                                 {one, to, ncclFloat16, 1, at(0x10)}});
  ASSERT_EQ(launches.size(), 4u);
  std::vector<uint32_t> jobs;
  for (const Launch& launch : launches) jobs.push_back(launch.batch.job_count);
  EXPECT_EQ(jobs, (std::vector<uint32_t>{2, 1, 1, 2}));
  EXPECT_EQ(launches[0].batch.device_scale, at(0x10));
  EXPECT_EQ(launches[0].batch.scale_form, Form::kFp16);
  EXPECT_TRUE(launches[0].batch.runs[0].device_scaled);
  EXPECT_FALSE(launches[0].batch.runs[1].device_scaled) << "no flags";
  EXPECT_EQ(launches[1].batch.device_scale, at(0x12));
  EXPECT_EQ(launches[2].batch.scale_form, Form::kBf16);
  EXPECT_EQ(launches[3].batch.device_scale, nullptr);
}

TEST(PackedTest, RefusesWhatALaunchCannotHold) {
  std::vector<Source> scattered;
  for (uint64_t i = 0; i < kMaxRuns; ++i) scattered.push_back(q8(64 * (1000 - i)));
  EXPECT_EQ(packed(std::vector<Fold>{{scattered, sink(Codec::kQ8), ncclFloat32, 1}}).size(), 1u);
  scattered.push_back(q8(64));
  EXPECT_THAT(error_of({scattered, sink(Codec::kQ8), ncclFloat32, 1}),
              HasSubstr("97 sources that lie in 97 runs; a launch takes 96"));
  const std::vector<Source> one = {q8(0x1000)};
  EXPECT_THAT(error_of({one, sink(Codec::kQ8), ncclFloat32, uint64_t{1} << 43}),
              HasSubstr("a CUDA fold of 8796093022208 elements"));
}

TEST(PackedTest, RefusesBrokenPromises) {
  const std::vector<Source> one = {q8(0x1000)}, crooked = {q8(0x1020)}, odd = {tensor(0x1002)};
  const Sink to = sink(Codec::kQ8);
  EXPECT_THAT(error_of({{}, to, ncclFloat32, 1}), HasSubstr("without sources"));
  EXPECT_THAT(error_of({one, to, ncclInt32, 1}), HasSubstr("int32 elements"));
  EXPECT_THAT(error_of({crooked, to, ncclFloat32, 1}),
              HasSubstr("a source of a CUDA fold at 0x1020, which is not a multiple of 64 bytes"));
  EXPECT_THAT(error_of({odd, to, ncclFloat32, 1}), HasSubstr("not a multiple of 4 bytes"));
  EXPECT_THAT(error_of({one, {at(0x1020), Codec::kQ8, false}, ncclFloat32, 1}),
              HasSubstr("the sink of a CUDA fold at 0x1020"));
  const bool flags[] = {true, false};
  EXPECT_THAT(error_of({one, to, ncclFloat32, 1, at(0x1002), {flags, 1}}),
              HasSubstr("the scale of a CUDA fold at 0x1002, which is not a multiple of 4 bytes"));
  EXPECT_THAT(error_of({one, to, ncclFloat32, 1, at(0x1000), flags}),
              HasSubstr("a CUDA fold of 1 sources with 2 flags"));
  EXPECT_THAT(error_of({one, to, ncclFloat32, 1, nullptr, {flags, 1}}),
              HasSubstr("scaled from device memory, and no address of it"));
}

}  // namespace
}  // namespace slimccl::quant::testing
