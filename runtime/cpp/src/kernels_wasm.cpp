// WebAssembly with SIMD128: vectors of 4 floats, of which engines on x86-64 hold 16 in registers. There is no fused
// multiply-add: a product is rounded, and then the sum, as in the baseline.
#include <wasm_simd128.h>

#define MULTIRES_VECTOR 4
#include "vectors.h"

#include "halves_impl.h"

namespace multires {
namespace {

constexpr int kColumns = 4, kAlone = 8, kRows = 2, kInputs = 1, kChains = 12;

// pmin(x, y) is y < x ? y : x, in one instruction of x86-64 and with the second of `least` for NaN.
inline Vec least(Vec a, Vec b) { return (Vec)wasm_f32x4_pmin((v128_t)b, (v128_t)a); }
inline Vec most(Vec a, Vec b) { return (Vec)wasm_f32x4_pmax((v128_t)b, (v128_t)a); }
inline float total(Vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline Vec multiply_add(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec reciprocal(Vec v) { return all(1.0f) / v; }
typedef Vec HalfSums;

inline Vec load(const int8_t* p) {
  const v128_t words = wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(p));
  return (Vec)wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(words));
}
inline void store_low_bytes(void* p, Ints v) {
  const v128_t bytes = wasm_i8x16_shuffle((v128_t)v, (v128_t)v, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
  wasm_v128_store32_lane(p, bytes, 0);
}

// Four weights of an output are two sums of two products; the weights of two outputs fill a vector of 16 bits.
constexpr int kGroup = 4, kDotRows = 2, kDotAlone = 4;
constexpr bool kUnsigned = false;
constexpr bool kPairs = false;
typedef v128_t Group;  // twice the four inputs, in 16 bits
inline Group group(const uint8_t* inputs) { return wasm_i16x8_extend_low_i8x16(wasm_v128_load32_splat(inputs)); }
struct Dots {
  v128_t low, high;  // of outputs 0 and 1, and of 2 and 3
};
inline Dots dots_of(Ints sums) {
  const v128_t v = (v128_t)sums, zero = wasm_i32x4_const_splat(0);
  return {wasm_i32x4_shuffle(v, zero, 0, 4, 1, 4), wasm_i32x4_shuffle(v, zero, 2, 4, 3, 4)};
}
inline Ints sums_of(Dots dots) {
  return (Ints)wasm_i32x4_shuffle(dots.low, dots.high, 0, 2, 4, 6) +
         (Ints)wasm_i32x4_shuffle(dots.low, dots.high, 1, 3, 5, 7);
}
inline Dots dot(Dots dots, const int8_t* w, Group g) {
  const v128_t weights = wasm_v128_load(w);
  return {wasm_i32x4_add(dots.low, wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(weights), g)),
          wasm_i32x4_add(dots.high, wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(weights), g))};
}
inline Dots dot_two(Dots dots, const int8_t* w, Group g, const int8_t* next, Group following) {
  return dot(dot(dots, w, g), next, following);
}

}  // namespace
}  // namespace multires

#include "kernels_impl.h"

constexpr multires::Kernels multires::kBaselineKernels = kernels_named("simd128");
