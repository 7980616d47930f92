// Cortex-M55 and others with the vector extension MVE, also known as Helium: 8 registers of 4 floats, and in int8
// 16 products by an instruction, which adds them to an integer register.
#define MULTIRES_VECTOR 4
#include "vectors.h"

namespace multires {
namespace {

constexpr int kColumns = 4, kAlone = 4, kRows = 1, kInputs = 1, kChains = 4;
constexpr int kGroup = 16, kDotRows = 1, kDotAlone = 1;

inline Vec least(Vec a, Vec b) {
  return (Vec)vpselq_f32((float32x4_t)a, (float32x4_t)b, vcmpltq_f32((float32x4_t)a, (float32x4_t)b));
}
inline Vec most(Vec a, Vec b) {
  return (Vec)vpselq_f32((float32x4_t)a, (float32x4_t)b, vcmpgtq_f32((float32x4_t)a, (float32x4_t)b));
}
inline float total(Vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline Vec multiply_add(Vec a, Vec b, Vec c) { return (Vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
inline Vec reciprocal(Vec v) { return all(1.0f) / v; }

inline Vec widen(Halves halves) {
  Vec v;
  for (int i = 0; i < kVector; ++i) {
    const Half half = halves[i];
    __fp16 value;
    std::memcpy(&value, &half, sizeof value);
    v[i] = value;
  }
  return v;
}
inline Halves narrow(Vec v) {
  Halves halves;
  for (int i = 0; i < kVector; ++i) {
    const __fp16 value = static_cast<__fp16>(v[i]);
    Half half;
    std::memcpy(&half, &value, sizeof half);
    halves[i] = half;
  }
  return halves;
}
typedef Vec HalfSums;

inline Vec load(const int8_t* p) { return (Vec)vcvtq_f32_s32(vldrbq_s32(p)); }
inline void store_low_bytes(void* p, Ints v) { vstrbq_s32(static_cast<int8_t*>(p), (int32x4_t)v); }

constexpr bool kUnsigned = false;
constexpr bool kPairs = false;
typedef int8x16_t Group;
inline Group group(const uint8_t* inputs) { return vldrbq_s8(reinterpret_cast<const int8_t*>(inputs)); }
struct Dots {
  int32_t sums[kVector];
};
inline Dots dots_of(Ints sums) { return {{sums[0], sums[1], sums[2], sums[3]}}; }
inline Ints sums_of(const Dots& dots) { return Ints{dots.sums[0], dots.sums[1], dots.sums[2], dots.sums[3]}; }
inline Dots dot(Dots dots, const int8_t* w, Group g) {
  for (int o = 0; o < kVector; ++o) dots.sums[o] = vmladavaq_s8(dots.sums[o], vldrbq_s8(w + kGroup * o), g);
  return dots;
}
inline Dots dot_two(Dots dots, const int8_t* w, Group g, const int8_t* next, Group following) {
  return dot(dot(dots, w, g), next, following);
}

}  // namespace
}  // namespace multires

#include "kernels_impl.h"

constexpr multires::Kernels multires::kBaselineKernels = kernels_named("mve");
