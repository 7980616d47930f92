// What every CPU of the architecture runs: SSE2 on x86-64, whatever there is elsewhere.
#define MULTIRES_VECTOR 4
#include "vectors.h"

#include "halves_impl.h"

namespace multires {
namespace {

constexpr int kColumns = 4, kAlone = 8, kRows = 2, kInputs = 1, kChains = 12;
constexpr int kGroup = 4, kDotRows = 2, kDotAlone = 8;

#if defined(__SSE2__)
inline Vec least(Vec a, Vec b) { return (Vec)_mm_min_ps((__m128)a, (__m128)b); }
inline Vec most(Vec a, Vec b) { return (Vec)_mm_max_ps((__m128)a, (__m128)b); }
inline float total(Vec v) { return total_of((__m128)v); }
#else
inline Vec least(Vec a, Vec b) { return a < b ? a : b; }
inline Vec most(Vec a, Vec b) { return a > b ? a : b; }
inline float total(Vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }
#endif
inline Vec multiply_add(Vec a, Vec b, Vec c) { return a * b + c; }

inline Vec reciprocal(Vec v) { return all(1.0f) / v; }

typedef Vec HalfSums;

constexpr bool kUnsigned = false;
#if defined(__SSE2__)
inline Vec load(const int8_t* p) {
  __m128i v = _mm_cvtsi32_si128(four_bytes(p));
  v = _mm_unpacklo_epi8(v, v);
  return (Vec)_mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(v, v), 24));
}
inline void store_low_bytes(void* p, Ints v) {
  const __m128i words = _mm_packs_epi32((__m128i)(v & 0xff), _mm_setzero_si128());
  const int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
  std::memcpy(p, &four, sizeof four);
}

typedef __m128i Group;  // twice the four inputs, in 16 bits
inline Group group(const uint8_t* inputs) {
  const int32_t four = four_bytes(inputs);
  const __m128i v = _mm_set1_epi32(four);
  return _mm_unpacklo_epi8(v, _mm_cmpgt_epi8(_mm_setzero_si128(), v));
}
inline Ints dot(Ints sum, const int8_t* w, const Group& g) {
  const __m128i weights = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w));
  const __m128i sign = _mm_cmpgt_epi8(_mm_setzero_si128(), weights);
  // Two sums of two products for each output; then the even and the odd sums are added.
  const __m128 low = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpacklo_epi8(weights, sign), g));
  const __m128 high = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpackhi_epi8(weights, sign), g));
  const __m128i even = _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)));
  const __m128i odd = _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1)));
  return sum + (Ints)even + (Ints)odd;
}
#else
inline Vec load(const int8_t* p) {
  Vec v;
  for (int i = 0; i < kVector; ++i) v[i] = p[i];
  return v;
}
inline void store_low_bytes(void* p, Ints v) {
  for (int i = 0; i < kVector; ++i) static_cast<uint8_t*>(p)[i] = static_cast<uint8_t>(v[i]);
}

struct Group {
  int8_t inputs[kGroup];
};
inline Group group(const uint8_t* inputs) {
  Group g;
  std::memcpy(&g, inputs, sizeof g);
  return g;
}
inline Ints dot(Ints sum, const int8_t* w, const Group& g) {
  for (int o = 0; o < kVector; ++o)
    for (int i = 0; i < kGroup; ++i) sum[o] += w[kGroup * o + i] * g.inputs[i];
  return sum;
}
#endif

}  // namespace
}  // namespace multires

#include "dots_impl.h"
#include "kernels_impl.h"

#include "banks_impl.h"

constexpr multires::Kernels multires::kBaselineKernels = kernels_named("baseline", &multires::kBankKernels);
