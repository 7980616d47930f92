// Compiled with -mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mf16c, and once more with -mavx512vnni by
// kernels_avx512vnni.cpp; called only where the CPU has it.
#define MULTIRES_VECTOR 16
#include "vectors.h"

namespace multires {
namespace {

constexpr int kColumns = 4, kAlone = 4, kRows = 4, kInputs = 1, kChains = 20;
constexpr int kGroup = 4, kDotRows = 4, kDotAlone = 4;

inline Vec least(Vec a, Vec b) { return (Vec)_mm512_min_ps((__m512)a, (__m512)b); }
inline Vec most(Vec a, Vec b) { return (Vec)_mm512_max_ps((__m512)a, (__m512)b); }
inline float total(Vec v) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
  return total_of(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
inline Vec multiply_add(Vec a, Vec b, Vec c) { return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }

// An estimate of 14 bits, refined once, takes half the time of a division.
inline Vec reciprocal(Vec v) {
  const Vec x = (Vec)_mm512_rcp14_ps((__m512)v);
  return multiply_add(x, multiply_add(-v, x, all(1.0f)), x);
}

// max(x, 0) - h(|x|) as in activations_impl.h, in half the time. One of 16 intervals has |x|. There h is a polynomial
// of degree 4 in t, from -1/2 to 1/2, interpolated at Chebyshev nodes. One instruction finds a coefficient for all
// lanes.
#define MULTIRES_GELU
constexpr float kGeluEnd = 5.39999962f;  // the largest float in the last interval
constexpr float kGeluIntervals = 16 / 5.4f;
alignas(64) constexpr float kGelu[][16] = {
    // by power of t and interval
    {7.306818664e-02f, 1.550849229e-01f, 1.682475954e-01f, 1.402754635e-01f, 9.782681614e-02f, 5.885976925e-02f,
     3.099043481e-02f, 1.438468974e-02f, 5.911021959e-03f, 2.155835973e-03f, 6.989676622e-04f, 2.016715880e-04f,
     5.181900633e-05f, 1.186332520e-05f, 2.420754527e-06f, 4.403865717e-07f},
    {1.237374023e-01f, 4.342706129e-02f, -1.227981877e-02f, -3.908474743e-02f, -4.279637709e-02f, -3.392660990e-02f,
     -2.186107635e-02f, -1.192464586e-02f, -5.611524452e-03f, -2.301724628e-03f, -8.280584589e-04f, -2.623322653e-04f,
     -7.338725118e-05f, -1.816435906e-05f, -3.983625902e-06f, -7.749476367e-07f},
    {-4.416145757e-02f, -3.485367820e-02f, -2.050145902e-02f, -6.838270463e-03f, 2.198382048e-03f, 5.865117535e-03f,
     5.761028267e-03f, 4.067122936e-03f, 2.311214805e-03f, 1.101999893e-03f, 4.498244962e-04f, 1.589887979e-04f,
     4.900529893e-05f, 1.323569904e-05f, 3.142997457e-06f, 6.578285934e-07f},
    {1.675547683e-03f, 4.231054336e-03f, 4.938986618e-03f, 3.902182681e-03f, 2.079106402e-03f, 4.816995352e-04f,
     -4.001794441e-04f, -6.272357423e-04f, -5.053959903e-04f, -3.023748286e-04f, -1.464950474e-04f, -5.954442895e-05f,
     -2.068046160e-05f, -6.204499641e-06f, -1.619390218e-06f, -3.695050168e-07f},
    {8.041168912e-04f, 4.296668340e-04f, -7.011758862e-05f, -4.069823772e-04f, -4.624363501e-04f, -3.171969438e-04f,
     -1.276353869e-04f, 8.875853155e-07f, 4.920460560e-05f, 4.750278458e-05f, 2.988323104e-05f, 1.456904556e-05f,
     5.827831956e-06f, 1.964614967e-06f, 5.665997946e-07f, 1.411271739e-07f},
};

inline Vec of_interval(const float* table, __m512i interval) {
  return (Vec)_mm512_permutexvar_ps(interval, _mm512_load_ps(table));
}

inline Vec gelu(Vec x) {
  const Vec a = least((Vec)_mm512_abs_ps((__m512)x), all(kGeluEnd));
  // Adding 2^23 and rounding down leaves the interval in the low bits.
  const __m512 shifted = _mm512_fmadd_round_ps((__m512)a, (__m512)all(kGeluIntervals), (__m512)all(8388608.0f),
                                               _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
  const __m512i interval = _mm512_castps_si512(shifted);
  const Vec t = multiply_add(a, all(kGeluIntervals), all(8388607.5f) - (Vec)shifted);
  Vec h = of_interval(kGelu[4], interval);
  for (int k = 3; k >= 0; --k) h = multiply_add(h, t, of_interval(kGelu[k], interval));
  return most(x, all(0.0f)) - h;
}

inline Vec widen(Halves halves) { return (Vec)_mm512_cvtph_ps((__m256i)halves); }
inline Halves narrow(Vec v) {
  return (Halves)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// A CPU may convert 8 values in less than half the time of 16: this is 1.6 times as fast on Zen 4.
typedef float HalfSums __attribute__((vector_size(8 * sizeof(float))));
inline void load_to(HalfSums& v, const float* p) { v = (HalfSums)_mm256_loadu_ps(p); }
inline void load_to(HalfSums& v, const Half* p) {
  v = (HalfSums)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void store(float* p, HalfSums v) { _mm256_storeu_ps(p, (__m256)v); }

inline Vec load(const int8_t* p) {
  return (Vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void store_low_bytes(void* p, Ints v) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8((__m512i)v));
}

#if defined(__AVX512VNNI__)
// The sums of products of int8 are one instruction, which takes one unsigned factor.
constexpr bool kUnsigned = true;
typedef __m512i Group;
inline Group group(const uint8_t* inputs) { return _mm512_set1_epi32(four_bytes(inputs)); }
inline Ints dot(Ints sum, const int8_t* w, const Group& g) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, g, _mm512_loadu_si512(w));
}
#else
// |q| * (w with the sign of q): two such products fit into 16 bits.
constexpr bool kUnsigned = false;
struct Group {
  __m512i magnitude;
  __mmask64 negative;
};
inline Group group(const uint8_t* inputs) {
  const int32_t four = four_bytes(inputs);
  const __m512i v = _mm512_set1_epi32(four);
  return {_mm512_abs_epi8(v), _mm512_movepi8_mask(v)};
}
inline Ints dot(Ints sum, const int8_t* w, const Group& g) {
  const __m512i weights = _mm512_loadu_si512(w);
  const __m512i with_sign = _mm512_mask_sub_epi8(weights, g.negative, _mm512_setzero_si512(), weights);
  const __m512i pairs = _mm512_maddubs_epi16(g.magnitude, with_sign);
  return sum + (Ints)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
#endif

}  // namespace
}  // namespace multires

#include "dots_impl.h"
#include "kernels_impl.h"

#include "banks_impl.h"

#if defined(__AVX512VNNI__)
constexpr multires::Kernels multires::kAvx512VnniKernels = kernels_named("avx512vnni", &multires::kBankKernels);
#else
constexpr multires::Kernels multires::kAvx512Kernels = kernels_named("avx512", &multires::kBankKernels);
#endif
