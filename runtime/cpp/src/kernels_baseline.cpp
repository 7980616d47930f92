// What every CPU of the architecture runs: SSE2 on x86-64, whatever there is elsewhere.
#define MULTIRES_VECTOR 4
#include "vectors.h"

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

// The bias of the exponent is 15 in float16 and 127 in float32: the shifted bits are too small by a factor of 2^112.
// A subnormal float16 then is a subnormal float32, and the product corrects it too.
inline Vec widen(Halves halves) {
#if defined(__SSE2__)
  __m128i given = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(&halves));
  const Ints high = (Ints)_mm_unpacklo_epi16(_mm_setzero_si128(), given);
#else
  const Ints high = __builtin_convertvector(halves, Ints) << 16;
#endif
  return float_of(high >> 3 & static_cast<int32_t>(0x8fffffff)) * all(0x1p112f);
}

// For values within float16's range, or NaN.
inline Halves narrow(Vec v) {
  const Ints magnitude = bits_of(v) & 0x7fffffff;
  const Ints normal = ((magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13) - (112 << 10);
  // Adding 1/2, whose last digit is 2^-24, rounds to multiples of 2^-24; their number is then in the low bits.
  const Ints subnormal = bits_of(float_of(magnitude) + all(0.5f)) - bits_of(all(0.5f));
  Ints half = magnitude < (113 << 23) ? subnormal : normal;
  half = magnitude > 0x7f800000 ? (Ints{} + 0x7e00) : half;
  return __builtin_convertvector(half | (bits_of(v) >> 16 & 0x8000), Halves);
}
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
