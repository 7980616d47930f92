// The rounding mode of floating-point operations.
#pragma once

#if defined(__SSE__)
#include <immintrin.h>
#elif !defined(__ARM_ARCH_PROFILE) || __ARM_ARCH_PROFILE != 'M'
#include <cfenv>  // which newlib does not have for microcontrollers
#endif

namespace multires {

// Rounds to the nearest while it exists. Programs may set another mode for their thread; with it, quantized values
// and outputs would differ. Reading the mode takes a few cycles, and no system call.
class RoundToNearest {
 public:
#if defined(__SSE__)
  RoundToNearest() : before_(_mm_getcsr()) { set(before_ & ~_MM_ROUND_MASK); }
  ~RoundToNearest() { set(before_); }
#elif defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
  RoundToNearest() : before_(__builtin_arm_get_fpscr()) {
    if (before_ & kMode) __builtin_arm_set_fpscr(before_ & ~kMode);
  }
  ~RoundToNearest() {
    if (before_ & kMode) __builtin_arm_set_fpscr((__builtin_arm_get_fpscr() & ~kMode) | (before_ & kMode));
  }
#else
  RoundToNearest() : before_(std::fegetround()) { set(FE_TONEAREST); }
  ~RoundToNearest() { set(before_); }
#endif
  RoundToNearest(const RoundToNearest&) = delete;
  RoundToNearest& operator=(const RoundToNearest&) = delete;

 private:
#if defined(__SSE__)
  // Exceptions that operations have raised stay raised.
  void set(unsigned mode) const {
    if (before_ & _MM_ROUND_MASK) _mm_setcsr((_mm_getcsr() & ~_MM_ROUND_MASK) | (mode & _MM_ROUND_MASK));
  }
  unsigned before_;
#elif defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
  static constexpr unsigned kMode = 3u << 22;
  unsigned before_;
#else
  void set(int mode) const {
    if (before_ != FE_TONEAREST) std::fesetround(mode);
  }
  int before_;
#endif
};

}  // namespace multires
