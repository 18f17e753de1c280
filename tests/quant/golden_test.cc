// Every row writes and reads the messages that tools/write_golden_messages.py derived from
// docs/formats.
#include <gtest/gtest.h>

#include "quant/samples.h"
#include "support/npy.h"

namespace slimccl::quant::testing {
namespace {

class Reader {
 public:
  explicit Reader(std::string text) : text_(std::move(text)) {}
  bool done() const { return at_ == text_.size(); }
  uint32_t number() {
    uint32_t value;
    take(&value, sizeof(value));
    return value;
  }
  std::vector<float> floats(uint64_t count) {
    std::vector<float> values(count);
    take(values.data(), count * sizeof(float));
    return values;
  }
  Buffer message(uint64_t bytes) {
    Buffer buffer(bytes);
    take(buffer.data(), bytes);
    return buffer;
  }

 private:
  void take(void* into, uint64_t bytes) {
    if (text_.size() - at_ < bytes) throw std::runtime_error("golden file is cut off");
    std::memcpy(into, text_.data() + at_, bytes);
    at_ += bytes;
  }
  std::string text_;
  uint64_t at_ = 0;
};

void check_golden(Codec codec) {
  const std::string path = "golden_messages/" + std::string(name(codec)) + ".bin";
  Reader reader(::slimccl::testing::read_file(::slimccl::testing::data_path(path)));
  int cases = 0;
  for (; !reader.done(); ++cases) {
    const uint32_t elems = reader.number(), bytes = reader.number();
    const std::vector<float> values = reader.floats(elems);
    const Buffer message = reader.message(bytes);
    const std::vector<float> decoded = reader.floats(elems);
    ASSERT_EQ(encoded_bytes(codec, ncclFloat32, elems), bytes) << "case " << cases;
    for (const Kernels& kernels : all_kernels()) {
      SCOPED_TRACE(::testing::Message() << kernels.name << ", case " << cases << ", " << elems);
      const Buffer written = encode(kernels, values, codec);
      for (uint32_t i = 0; i < bytes; ++i) ASSERT_EQ(written.data()[i], message.data()[i]) << i;
      const std::vector<float> read = decode(kernels, message, codec, elems);
      for (uint32_t i = 0; i < elems; ++i) ASSERT_EQ(bits(read[i]), bits(decoded[i])) << i;
    }
  }
  EXPECT_EQ(cases, 26);
}

TEST(GoldenTest, Q8) { check_golden(Codec::kQ8); }
TEST(GoldenTest, Q4s) { check_golden(Codec::kQ4s); }

}  // namespace
}  // namespace slimccl::quant::testing
