// Quantized values, -128 to 127: rounding floats to them, and loading and storing them in rows of queues as
// int8. Included by kernels_impl.h, whose vectors it uses.

namespace multires {
namespace {

// Bytes to floats, and the low bytes of integers. For such short vectors, GCC's __builtin_convertvector converts one
// byte after the other.
#if defined(__AVX512F__) && MULTIRES_VECTOR == 16
inline Vec load(const int8_t* p) {
  return (Vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void store_low_bytes(void* p, Ints v) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8((__m512i)v));
}
#elif defined(__AVX2__) && MULTIRES_VECTOR == 8
inline Vec load(const int8_t* p) {
  return (Vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline void store_low_bytes(void* p, Ints v) {
  const __m256i first = _mm256_set1_epi32(0x0c080400);  // of every four bytes; the rest of each half is unused
  const __m256i bytes = _mm256_shuffle_epi8((__m256i)v, first);
  const __m128i both = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
  _mm_storel_epi64(static_cast<__m128i*>(p), both);
}
#elif defined(__SSE2__) && MULTIRES_VECTOR == 4
inline Vec load(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, sizeof four);
  __m128i v = _mm_cvtsi32_si128(four);
  v = _mm_unpacklo_epi8(v, v);
  return (Vec)_mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(v, v), 24));
}
inline void store_low_bytes(void* p, Ints v) {
  const __m128i words = _mm_packs_epi32((__m128i)(v & 0xff), _mm_setzero_si128());
  const int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
  std::memcpy(p, &four, sizeof four);
}
#elif defined(__aarch64__)
inline Vec load(const int8_t* p) {
  uint32_t four;
  std::memcpy(&four, p, sizeof four);
  return (Vec)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four)))));
}
inline void store_low_bytes(void* p, Ints v) {
  const int16x4_t words = vmovn_s32((int32x4_t)v);
  const uint32_t four = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
  std::memcpy(p, &four, sizeof four);
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
#endif

// The nearest quantized value, half to even, in the low byte of each lane. A value that is too large becomes the
// largest, and so does NaN. The bounds are between the caller's product and the sum, so that no compiler fuses the two:
// all instruction sets round equally.
inline Ints quantize(Vec v) {
  const Vec rounded = most(least(v, all(127.0f)), all(-128.0f)) + all(12582912.0f);  // see sigmoid
  Ints bits;
  std::memcpy(&bits, &rounded, sizeof bits);
  return bits;
}

inline void store(int8_t* p, Vec v) { store_low_bytes(p, quantize(v)); }

// The first n values of a vector.
inline void store_some(int8_t* p, Vec v, int n) {
  int8_t quantized[kVector];
  store(quantized, v);
  for (int i = 0; i < n; ++i) p[i] = quantized[i];
}

}  // namespace
}  // namespace multires
