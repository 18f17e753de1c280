// The C API with ranks as threads: results, in-place forms, types, reductions.
#include <numeric>

#include "api/ranks.h"
#include "quant/half.h"
#include "slimccl/slimccl.h"

namespace {

using slimccl::testing::with_ranks;

TEST(Api, AllGatherOfBytesInAnyType) {
  for (const ncclDataType_t type : {ncclInt8, ncclUint64, ncclFloat64, ncclFloat8e4m3}) {
    with_ranks(3, [&](int rank, ncclComm_t& comm) {
      std::vector<uint64_t> input(5, static_cast<uint64_t>(rank) + 7), output(15);
      const size_t count = type == ncclInt8 || type == ncclFloat8e4m3 ? 40 : 5;
      ASSERT_EQ(ncclAllGather(input.data(), output.data(), count, type, comm, nullptr), ncclSuccess)
          << ncclGetLastError(nullptr);
      for (size_t i = 0; i < output.size(); ++i) ASSERT_EQ(output[i], i / 5 + 7);
    });
  }
}

TEST(Api, ReduceScatterSumsAveragesAndScales) {
  with_ranks(4, [&](int rank, ncclComm_t& comm) {
    std::vector<float> input(4 * 100), output(100);
    std::iota(input.begin(), input.end(), static_cast<float>(rank));
    const auto expect = [&](float factor) {
      for (size_t i = 0; i < output.size(); ++i) {
        const float x = static_cast<float>(static_cast<size_t>(rank) * 100 + i);
        ASSERT_EQ(output[i], factor * (4 * x + 6));
      }
    };
    ASSERT_EQ(
        ncclReduceScatter(input.data(), output.data(), 100, ncclFloat32, ncclSum, comm, nullptr),
        ncclSuccess);
    expect(1.0f);
    ASSERT_EQ(
        ncclReduceScatter(input.data(), output.data(), 100, ncclFloat32, ncclAvg, comm, nullptr),
        ncclSuccess);
    expect(0.25f);
    ncclRedOp_t twice;
    float two = 2.0f;
    ASSERT_EQ(ncclRedOpCreatePreMulSum(&twice, &two, ncclFloat32, ncclScalarHostImmediate, comm),
              ncclSuccess);
    ASSERT_EQ(
        ncclReduceScatter(input.data(), output.data(), 100, ncclFloat32, twice, comm, nullptr),
        ncclSuccess);
    expect(2.0f);
    ASSERT_EQ(ncclRedOpDestroy(twice, comm), ncclSuccess);
    EXPECT_EQ(
        ncclReduceScatter(input.data(), output.data(), 100, ncclFloat32, twice, comm, nullptr),
        ncclInvalidArgument);
  });
}

TEST(Api, PreMulSumScalarsMayDifferBetweenRanksAndLieInMemory) {
  with_ranks(3, [&](int rank, ncclComm_t& comm) {
    std::vector<uint16_t> input(30, slimccl::quant::float_to_bf16(1.0f)), output(10);
    uint16_t scalar = slimccl::quant::float_to_bf16(static_cast<float>(rank + 1));
    ncclRedOp_t op;
    ASSERT_EQ(ncclRedOpCreatePreMulSum(&op, &scalar, ncclBfloat16, ncclScalarDevice, comm),
              ncclSuccess);
    scalar = slimccl::quant::float_to_bf16(static_cast<float>(10 * (rank + 1)));
    ASSERT_EQ(ncclReduceScatter(input.data(), output.data(), 10, ncclBfloat16, op, comm, nullptr),
              ncclSuccess);
    for (const uint16_t value : output) ASSERT_EQ(slimccl::quant::bf16_to_float(value), 60.0f);
  });
}

TEST(Api, AllReduceInPlaceAndOutOfPlace) {
  for (const size_t count : {size_t{0}, size_t{1}, size_t{33}, size_t{100'003}}) {
    with_ranks(3, [&](int rank, ncclComm_t& comm) {
      std::vector<float> input(count), output(count);
      for (size_t i = 0; i < count; ++i)
        input[i] = static_cast<float>(i % 97) + static_cast<float>(rank);
      ASSERT_EQ(
          ncclAllReduce(input.data(), output.data(), count, ncclFloat32, ncclSum, comm, nullptr),
          ncclSuccess);
      ASSERT_EQ(
          ncclAllReduce(input.data(), input.data(), count, ncclFloat32, ncclSum, comm, nullptr),
          ncclSuccess);
      for (size_t i = 0; i < count; ++i) ASSERT_EQ(output[i], 3 * static_cast<float>(i % 97) + 3);
      ASSERT_EQ(input, output);
    });
  }
}

TEST(Api, ReduceScatterAndAllGatherInPlace) {
  with_ranks(2, [&](int rank, ncclComm_t& comm) {
    std::vector<float> buffer(2 * 5000, static_cast<float>(rank + 1));
    float* own = buffer.data() + 5000 * rank;
    ASSERT_EQ(ncclReduceScatter(buffer.data(), own, 5000, ncclFloat32, ncclSum, comm, nullptr),
              ncclSuccess);
    ASSERT_EQ(ncclAllGather(own, buffer.data(), 5000, ncclFloat32, comm, nullptr), ncclSuccess);
    for (const float value : buffer) ASSERT_EQ(value, 3.0f);
  });
}

TEST(Api, OneRankAlone) {
  with_ranks(1, [&](int, ncclComm_t& comm) {
    std::vector<float> input(100, 1.5f), output(100);
    ASSERT_EQ(ncclAllReduce(input.data(), output.data(), 100, ncclFloat32, ncclAvg, comm, nullptr),
              ncclSuccess);
    ASSERT_EQ(input, output);
    ASSERT_EQ(ncclAllGather(input.data(), input.data(), 100, ncclFloat32, comm, nullptr),
              ncclSuccess);
    ASSERT_EQ(
        ncclReduceScatter(input.data(), output.data(), 100, ncclFloat32, ncclSum, comm, nullptr),
        ncclSuccess);
    ASSERT_EQ(input, output);
  });
}

TEST(Api, StatsAndExplainTellWhatHappened) {
  with_ranks(2, [&](int, ncclComm_t& comm) {
    std::vector<float> data(1000);
    ASSERT_EQ(ncclAllReduce(data.data(), data.data(), 1000, ncclFloat32, ncclSum, comm, nullptr),
              ncclSuccess);
    slimcclStats_t stats{};
    EXPECT_EQ(slimcclGetStats(comm, &stats), ncclInvalidArgument) << "size was not set";
    stats.size = sizeof stats;
    ASSERT_EQ(slimcclGetStats(comm, &stats), ncclSuccess);
    EXPECT_EQ(stats.calls, 1u);
    EXPECT_EQ(stats.compressed_calls, 0u);
    EXPECT_EQ(stats.bytes_between_nodes, 0u);
    EXPECT_GT(stats.bytes_in_node, 0u);
    char text[400];
    ASSERT_EQ(slimcclExplain(comm, "all_gather", 1 << 20, ncclBfloat16, text, sizeof text),
              ncclSuccess);
    EXPECT_NE(std::string(text).find("exact because the profile is exact"), std::string::npos)
        << text;
    EXPECT_EQ(slimcclExplain(comm, "gather_all", 1, ncclFloat32, text, sizeof text),
              ncclInvalidArgument);
  });
}

TEST(Api, ManyCommunicatorsOneAfterAnother) {
  for (int i = 0; i < 20; ++i) {
    with_ranks(2, [&](int, ncclComm_t& comm) {
      float value = 1.0f;
      ASSERT_EQ(ncclAllReduce(&value, &value, 1, ncclFloat32, ncclSum, comm, nullptr), ncclSuccess);
      ASSERT_EQ(value, 2.0f);
    });
  }
}

}  // namespace
