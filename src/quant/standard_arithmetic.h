// IEEE arithmetic whatever the calling thread was set to (threads inherit a framework's
// flush-to-zero): else tiny blocks would differ between ranks. Holds from construction to
// destruction, for the constructing thread.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace slimccl::quant {

class StandardArithmetic {
 public:
#if defined(__x86_64__)
  StandardArithmetic() noexcept : saved_(_mm_getcsr()) {
    if ((saved_ & ~kFlags) != kStandard) _mm_setcsr(kStandard);
  }
  ~StandardArithmetic() {
    if ((saved_ & ~kFlags) != kStandard) _mm_setcsr(saved_);
  }
  StandardArithmetic(const StandardArithmetic&) = delete;
  StandardArithmetic& operator=(const StandardArithmetic&) = delete;

 private:
  static constexpr unsigned kStandard =
      0x1f80;                               // nearest even, denormals kept, all exceptions masked
  static constexpr unsigned kFlags = 0x3f;  // what has happened so far
  unsigned saved_;
#endif
};

}  // namespace slimccl::quant
