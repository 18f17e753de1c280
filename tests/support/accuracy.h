// How well values survived, over all of them.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace slimccl::testing {

// Signal to quantization noise ratio: 20 dB is a relative error of 10 %.
template <class Exact>
double sqnr_db(const std::vector<Exact>& exact, const std::vector<float>& found) {
  double signal = 0, noise = 0;
  for (uint64_t i = 0; i < exact.size(); ++i) {
    const double value = exact[i], error = found[i] - value;
    signal += value * value;
    noise += error * error;
  }
  return 10 * std::log10(signal / noise);
}

}  // namespace slimccl::testing
