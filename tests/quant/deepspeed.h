// DeepSpeed's quantization rule, for comparison only: `ds4` (ZeRO++'s gradients, qgZ) and `ds8`
// (its weights, qwZ). Written from its description: one fp32 scale a group, 2^(bits-1) times the
// inverse of the largest magnitude, so that the largest positive value is clamped. DeepSpeed's
// kernels take fp16; here values stay fp32, which is kinder to it. Finite values only.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace slimccl::quant::testing {

inline constexpr uint64_t kDs4Group = 2048;  // elements under one scale

// qwZ's rule: the fewest groups of at most 8000 elements whose length is a multiple of 8. `elems`
// itself has to be one.
inline uint64_t ds8_group(uint64_t elems) {
  uint64_t groups = (elems + 7999) / 8000;
  while (elems % (8 * groups) != 0) ++groups;
  return elems / groups;
}

// What would be sent: the codes of all groups, and beside them the scales.
struct DeepSpeedMessage {
  int bits;  // 4 or 8
  uint64_t group, elems;
  std::vector<uint8_t>
      codes;  // two's complement; of two 4-bit codes the even one is in the high half
  std::vector<float> scales;  // what codes are multiplied by
};

inline DeepSpeedMessage ds_encode(const std::vector<float>& values, int bits, uint64_t group) {
  const float levels = std::ldexp(1.0f, bits - 1);
  DeepSpeedMessage message{bits, group, values.size(), {}, {}};
  message.codes.resize((values.size() * static_cast<uint64_t>(bits) + 7) / 8);
  for (uint64_t start = 0; start < values.size(); start += group) {
    const uint64_t end = std::min<uint64_t>(start + group, values.size());
    float absmax = 0;
    for (uint64_t i = start; i < end; ++i) absmax = std::max(absmax, std::fabs(values[i]));
    const float scale = absmax == 0 ? 1.0f : 2 * levels / (2 * absmax);
    message.scales.push_back(1 / scale);
    for (uint64_t i = start; i < end; ++i) {
      const float code = std::clamp(std::nearbyint(values[i] * scale), -levels, levels - 1);
      const auto byte = static_cast<uint8_t>(static_cast<int>(code));
      if (bits == 8) message.codes[i] = byte;
      if (bits == 4) message.codes[i / 2] |= static_cast<uint8_t>((byte & 15) << (i % 2 ? 0 : 4));
    }
  }
  return message;
}

inline std::vector<float> ds_decode(const DeepSpeedMessage& message) {
  std::vector<float> values(message.elems);
  for (uint64_t i = 0; i < message.elems; ++i) {
    const uint8_t byte = message.codes[message.bits == 8 ? i : i / 2];
    const int unit = message.bits == 8 ? 1 : 16;  // a 4-bit code is moved to the high half first
    const auto code = static_cast<int8_t>(i % 2 == 1 ? byte * unit : byte & -unit);
    values[i] =
        static_cast<float>(code) / static_cast<float>(unit) * message.scales[i / message.group];
  }
  return values;
}

// There and back.
inline std::vector<float> through_ds4(const std::vector<float>& values) {
  return ds_decode(ds_encode(values, 4, kDs4Group));
}
inline std::vector<float> through_ds8(const std::vector<float>& values) {
  return ds_decode(ds_encode(values, 8, ds8_group(values.size())));
}

}  // namespace slimccl::quant::testing
