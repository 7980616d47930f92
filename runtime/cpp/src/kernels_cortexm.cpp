// Cortex-M4 and M7, and others with the DSP extension and float32: one float at a time, and in int8 two products by an
// instruction.
#define MULTIRES_VECTOR 1
#include "vectors.h"

namespace multires {
namespace {

// 32 registers of one float; 14 of integers, of which 6 are sums.
constexpr int kColumns = 16, kAlone = 16, kRows = 1, kInputs = 1, kChains = 16;
constexpr int kGroup = 4, kDotRows = 1, kDotAlone = 4;

inline Vec least(Vec a, Vec b) { return a < b ? a : b; }
inline Vec most(Vec a, Vec b) { return a > b ? a : b; }
inline float total(Vec v) { return v; }
inline Vec multiply_add(Vec a, Vec b, Vec c) { return __builtin_fmaf(a, b, c); }
inline Vec reciprocal(Vec v) { return 1.0f / v; }

inline Vec widen(Halves half) {
  __fp16 value;
  std::memcpy(&value, &half, sizeof value);
  return value;
}
inline Halves narrow(Vec v) {
  const __fp16 value = static_cast<__fp16>(v);
  Halves half;
  std::memcpy(&half, &value, sizeof half);
  return half;
}
typedef Vec HalfSums;

inline Vec load(const int8_t* p) { return static_cast<float>(*p); }
inline void store_low_bytes(void* p, Ints v) { *static_cast<int8_t*>(p) = static_cast<int8_t>(v); }

// In stored_impl.h a quantized value takes two comparisons, which are slow here.
#define MULTIRES_QUANTIZES
inline Ints quantize(Vec v) {
  const float limited = v < 127.0f ? v : 127.0f;  // NaN too
  float rounded;                                   // an integer: to nearest even, and saturated
  asm("vcvtr.s32.f32 %0, %1" : "=t"(rounded) : "t"(limited));
  int32_t whole;
  std::memcpy(&whole, &rounded, sizeof whole);
  return __ssat(whole, 8);
}

constexpr bool kUnsigned = false;
// The first and third byte of four in 16 bits each, and the second and fourth.
inline int16x2_t even(int32_t four) { return __sxtb16(static_cast<uint8x4_t>(four)); }
inline int16x2_t odd(int32_t four) {
  int16x2_t pair;  // GCC 12 has no intrinsic for the rotation, which takes no instruction
  asm("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(four));
  return pair;
}
struct Group {
  int16x2_t even, odd;
};
inline Group group(const uint8_t* inputs) {
  const int32_t four = four_bytes(inputs);
  return {even(four), odd(four)};
}
inline Ints dot(Ints sum, const int8_t* w, const Group& g) {
  const int32_t four = four_bytes(w);
  return __smlad(odd(four), g.odd, __smlad(even(four), g.even, sum));
}

}  // namespace
}  // namespace multires

#include "dots_impl.h"
#include "kernels_impl.h"

constexpr multires::Kernels multires::kBaselineKernels = kernels_named("cortexm");
