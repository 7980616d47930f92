// Compiled with -mavx2 -mfma -mf16c; called only where the CPU has it.
#define MULTIRES_VECTOR 8
#include "vectors.h"

namespace multires {
namespace {

constexpr int kColumns = 4, kAlone = 8, kRows = 3, kInputs = 1, kChains = 12;
constexpr int kGroup = 4, kDotRows = 3, kDotAlone = 8;

inline Vec least(Vec a, Vec b) { return (Vec)_mm256_min_ps((__m256)a, (__m256)b); }
inline Vec most(Vec a, Vec b) { return (Vec)_mm256_max_ps((__m256)a, (__m256)b); }
inline float total(Vec v) {
  return total_of(_mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1)));
}
inline Vec multiply_add(Vec a, Vec b, Vec c) { return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }

inline Vec reciprocal(Vec v) { return all(1.0f) / v; }

inline Vec widen(Halves halves) { return (Vec)_mm256_cvtph_ps((__m128i)halves); }
inline Halves narrow(Vec v) {
  return (Halves)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
typedef Vec HalfSums;

inline Vec load(const int8_t* p) {
  return (Vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline void store_low_bytes(void* p, Ints v) {
  const __m256i first = _mm256_set1_epi32(0x0c080400);  // of every four bytes; the rest of each half is unused
  const __m256i bytes = _mm256_shuffle_epi8((__m256i)v, first);
  const __m128i both = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
  _mm_storel_epi64(static_cast<__m128i*>(p), both);
}

// |q| * (w with the sign of q): two such products fit into 16 bits.
constexpr bool kUnsigned = false;
struct Group {
  __m256i value, magnitude;
};
inline Group group(const uint8_t* inputs) {
  const int32_t four = four_bytes(inputs);
  const __m256i v = _mm256_set1_epi32(four);
  return {v, _mm256_abs_epi8(v)};
}
inline Ints dot(Ints sum, const int8_t* w, const Group& g) {
  const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
  const __m256i pairs = _mm256_maddubs_epi16(g.magnitude, _mm256_sign_epi8(weights, g.value));
  return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

}  // namespace
}  // namespace multires

#include "dots_impl.h"
#include "kernels_impl.h"

#include "banks_impl.h"

constexpr multires::Kernels multires::kAvx2Kernels = kernels_named("avx2", &multires::kBankKernels);
