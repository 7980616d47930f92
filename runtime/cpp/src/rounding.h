// The rounding mode of floating-point operations.
#pragma once

#if defined(__SSE__)
#include <immintrin.h>
#else
#include <cfenv>
#endif

namespace multires {

// Rounds to the nearest while it exists. Programs may set another mode for their thread; with it, quantized values
// and outputs would differ. Reading the mode takes a few cycles, and no system call.
class RoundToNearest {
 public:
#if defined(__SSE__)
  RoundToNearest() : before_(_mm_getcsr()) { set(before_ & ~_MM_ROUND_MASK); }
  ~RoundToNearest() { set(before_); }
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
#else
  void set(int mode) const {
    if (before_ != FE_TONEAREST) std::fesetround(mode);
  }
  int before_;
#endif
};

}  // namespace multires
