// aarch64, where every CPU has NEON: 32 registers of 4 floats, of which 4 rows by 4 vectors are 16 sums. Compiled once
// more with dot products by kernels_neondot.cpp.
#define MULTIRES_VECTOR 4
#include "vectors.h"

namespace multires {
namespace {

constexpr int kColumns = 4, kAlone = 16, kRows = 4, kInputs = 4, kChains = 20;

// Not FMIN and FMAX: these give NaN.
inline Vec least(Vec a, Vec b) { return a < b ? a : b; }
inline Vec most(Vec a, Vec b) { return a > b ? a : b; }
inline float total(Vec v) { return vpadds_f32(vadd_f32(vget_low_f32((float32x4_t)v), vget_high_f32((float32x4_t)v))); }
inline Vec multiply_add(Vec a, Vec b, Vec c) { return (Vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }

// An estimate of 8 bits, refined twice: divisions are slow on many of these CPUs.
inline Vec reciprocal(Vec v) {
  float32x4_t x = vrecpeq_f32((float32x4_t)v);
  for (int i = 0; i < 2; ++i) x = vmulq_f32(x, vrecpsq_f32((float32x4_t)v, x));
  return (Vec)x;
}

inline Vec widen(Halves halves) { return (Vec)vcvt_f32_f16((float16x4_t)halves); }
inline Halves narrow(Vec v) { return (Halves)vcvt_f16_f32((float32x4_t)v); }
typedef Vec HalfSums;

inline Vec load(const int8_t* p) {
  const uint32_t four = static_cast<uint32_t>(four_bytes(p));
  return (Vec)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four)))));
}
inline void store_low_bytes(void* p, Ints v) {
  const int16x4_t words = vmovn_s32((int32x4_t)v);
  const uint32_t four = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
  std::memcpy(p, &four, sizeof four);
}

constexpr bool kUnsigned = false;
typedef int8x16_t Group;
inline Group group(const uint8_t* inputs) { return vreinterpretq_s8_s32(vdupq_n_s32(four_bytes(inputs))); }
#if defined(MULTIRES_DOT_PRODUCTS)
constexpr int kGroup = 4, kDotRows = 4, kDotAlone = 8;
inline Ints dot(Ints sum, const int8_t* w, Group g) { return (Ints)vdotq_s32((int32x4_t)sum, vld1q_s8(w), g); }
#else
// Two products of int8 fit into 16 bits, because no weight is -128. Each output has two sums: 2 rows fill the
// registers.
constexpr int kGroup = 4, kDotRows = 2, kDotAlone = 4;
constexpr bool kPairs = true;
struct Dots {
  int32x4_t low, high;
};
inline Dots dots_of(Ints sums) {
  const int32x4_t zero = vdupq_n_s32(0);
  return {vzip1q_s32((int32x4_t)sums, zero), vzip2q_s32((int32x4_t)sums, zero)};
}
inline Ints sums_of(Dots dots) { return (Ints)vpaddq_s32(dots.low, dots.high); }
inline Dots dot(Dots dots, const int8_t* w, Group g) {
  const int8x16_t weights = vld1q_s8(w);
  return {vpadalq_s16(dots.low, vmull_s8(vget_low_s8(weights), vget_low_s8(g))),
          vpadalq_s16(dots.high, vmull_high_s8(weights, g))};
}
inline Dots dot_two(Dots dots, const int8_t* w, Group g, const int8_t* next, Group following) {
  const int8x16_t weights = vld1q_s8(w), others = vld1q_s8(next);
  const int16x8_t low = vmull_s8(vget_low_s8(weights), vget_low_s8(g)), high = vmull_high_s8(weights, g);
  return {vpadalq_s16(dots.low, vmlal_s8(low, vget_low_s8(others), vget_low_s8(following))),
          vpadalq_s16(dots.high, vmlal_high_s8(high, others, following))};
}
#endif

}  // namespace
}  // namespace multires

#if defined(MULTIRES_DOT_PRODUCTS)
#include "dots_impl.h"
#endif
#include "kernels_impl.h"

#include "banks_impl.h"

#if defined(MULTIRES_DOT_PRODUCTS)
constexpr multires::Kernels multires::kNeonDotKernels = kernels_named("neondot", &multires::kBankKernels);
#else
constexpr multires::Kernels multires::kBaselineKernels = kernels_named("neon", &multires::kBankKernels);
#endif
