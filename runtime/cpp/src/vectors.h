// Vectors of floats as the compiler has them (GCC and Clang vector extensions), so that one text of the arithmetic
// works for all instruction sets. Included by the source file of an instruction set, which defines MULTIRES_VECTOR,
// the floats in a vector, and then the functions that kernels_impl.h names.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>

#if defined(__x86_64__)
#if !defined(__clang__)
#pragma GCC diagnostic push
// GCC 12 warns of values that its own header leaves undefined on purpose.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#elif defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#elif defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#endif

#include "kernels.h"

namespace multires {
namespace {

constexpr int kVector = MULTIRES_VECTOR;
typedef uint16_t Half;  // the bits of a float16
#if MULTIRES_VECTOR == 1
// CPUs without vectors: compilers do not keep vectors of one float in registers.
typedef float Vec;
typedef int32_t Ints;
typedef Half Halves;
inline float lane_of(Vec v, int) { return v; }
inline Vec floats_of(Ints v) { return static_cast<float>(v); }
#else
typedef float Vec __attribute__((vector_size(kVector * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(kVector * sizeof(float))));
typedef Half Halves __attribute__((vector_size(kVector * sizeof(Half))));
inline float lane_of(Vec v, int lane) { return v[lane]; }
inline Vec floats_of(Ints v) { return __builtin_convertvector(v, Vec); }
#endif
static_assert(kLane % kVector == 0, "a padded row is a whole number of vectors");

// A vector at any address. With memcpy, GCC for aarch64 keeps sums in integer registers.
typedef Vec LooseVec __attribute__((aligned(sizeof(float)), may_alias));
inline Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }
// Subtracting +0 changes no value, so it is free; adding +0 would change -0 to +0.
inline Vec all(float value) { return value - Vec{}; }

inline Ints bits_of(Vec v) {
  Ints bits;
  std::memcpy(&bits, &v, sizeof bits);
  return bits;
}
inline Vec float_of(Ints bits) {
  Vec v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

#if defined(__SSE2__)
inline float total_of(__m128 v) {
  const __m128 half = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}
#endif

inline int32_t four_bytes(const void* p) {
  int32_t four;
  std::memcpy(&four, p, sizeof four);
  return four;
}

}  // namespace
}  // namespace multires
