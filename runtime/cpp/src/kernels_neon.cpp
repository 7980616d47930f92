// aarch64, where every CPU has NEON: 32 registers of 4 floats, of which 4 rows by 4 vectors are 16 sums.
#define MULTIRES_VECTOR 4
#include "vectors.h"

namespace multires {
namespace {

constexpr int kColumns = 4, kAlone = 8, kRows = 4, kChains = 20;

// Not FMIN and FMAX: these give NaN.
inline Vec least(Vec a, Vec b) { return a < b ? a : b; }
inline Vec most(Vec a, Vec b) { return a > b ? a : b; }
inline float total(Vec v) { return vpadds_f32(vadd_f32(vget_low_f32((float32x4_t)v), vget_high_f32((float32x4_t)v))); }
inline Vec multiply_add(Vec a, Vec b, Vec c) {
  return (Vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
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
#if defined(__ARM_FEATURE_DOTPROD)
typedef int8x16_t Group;
inline Group group(int32_t four) { return vreinterpretq_s8_s32(vdupq_n_s32(four)); }
inline Ints dot(Ints sum, const int8_t* w, Group g) { return (Ints)vdotq_s32((int32x4_t)sum, vld1q_s8(w), g); }
#else
typedef int8x8_t Group;  // twice the four inputs
inline Group group(int32_t four) { return vreinterpret_s8_s32(vdup_n_s32(four)); }
inline Ints dot(Ints sum, const int8_t* w, Group g) {
  const int8x16_t weights = vld1q_s8(w);
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(weights), g));
  const int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(weights), g));
  return sum + (Ints)vpaddq_s32(low, high);
}
#endif

}  // namespace
}  // namespace multires

#include "kernels_impl.h"

constexpr multires::Kernels multires::kBaselineKernels = kernels_named("neon");
