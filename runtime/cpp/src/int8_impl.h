// int8 products: an input is quantized once; kGroup bytes are multiplied and summed at a time. The sums are exact, so
// they are equal on all instruction sets. Included by kernels_impl.h, whose vectors it uses.

namespace multires {
namespace {

inline Ints load(const int32_t* p) {
  Ints v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// A Group is kGroup inputs in the layout of the instruction set. group() reads one. dot(sum, w, g) adds to output o of
// the sum the products of the group with w[kGroup * o] .. w[kGroup * o + kGroup - 1]. No weight is -128: the loader
// checks this.
#if defined(__AVX512VNNI__) && MULTIRES_VECTOR == 16
// The instruction takes one unsigned factor: 128 is added to the inputs; Panels::offsets correct the sum.
constexpr bool kUnsigned = true;
typedef __m512i Group;
inline Group group(const uint8_t* q) {
  int32_t four;
  std::memcpy(&four, q, sizeof four);
  return _mm512_set1_epi32(four);
}
inline Ints dot(Ints sum, const int8_t* w, Group g) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, g, _mm512_loadu_si512(w));
}
#else
constexpr bool kUnsigned = false;
#if defined(__AVX512BW__) && MULTIRES_VECTOR == 16
// |q| * (w with the sign of q): two such products fit into 16 bits.
struct Group {
  __m512i magnitude;
  __mmask64 negative;
};
inline Group group(const uint8_t* q) {
  int32_t four;
  std::memcpy(&four, q, sizeof four);
  const __m512i v = _mm512_set1_epi32(four);
  return {_mm512_abs_epi8(v), _mm512_movepi8_mask(v)};
}
inline Ints dot(Ints sum, const int8_t* w, const Group& g) {
  const __m512i weights = _mm512_loadu_si512(w);
  const __m512i with_sign = _mm512_mask_sub_epi8(weights, g.negative, _mm512_setzero_si512(), weights);
  const __m512i pairs = _mm512_maddubs_epi16(g.magnitude, with_sign);
  return sum + (Ints)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
#elif defined(__AVX2__) && MULTIRES_VECTOR == 8
// As above.
struct Group {
  __m256i value, magnitude;
};
inline Group group(const uint8_t* q) {
  int32_t four;
  std::memcpy(&four, q, sizeof four);
  const __m256i v = _mm256_set1_epi32(four);
  return {v, _mm256_abs_epi8(v)};
}
inline Ints dot(Ints sum, const int8_t* w, const Group& g) {
  const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
  const __m256i pairs = _mm256_maddubs_epi16(g.magnitude, _mm256_sign_epi8(weights, g.value));
  return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#elif defined(__SSE2__) && MULTIRES_VECTOR == 4
typedef __m128i Group;  // twice the four inputs, in 16 bits
inline Group group(const uint8_t* q) {
  int32_t four;
  std::memcpy(&four, q, sizeof four);
  const __m128i v = _mm_set1_epi32(four);
  return _mm_unpacklo_epi8(v, _mm_cmpgt_epi8(_mm_setzero_si128(), v));
}
inline Ints dot(Ints sum, const int8_t* w, Group g) {
  const __m128i weights = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w));
  const __m128i sign = _mm_cmpgt_epi8(_mm_setzero_si128(), weights);
  // Two sums of two products for each output; then the even and the odd sums are added.
  const __m128 low = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpacklo_epi8(weights, sign), g));
  const __m128 high = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpackhi_epi8(weights, sign), g));
  const __m128i even = _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)));
  const __m128i odd = _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1)));
  return sum + (Ints)even + (Ints)odd;
}
#elif defined(__ARM_FEATURE_DOTPROD)
typedef int8x16_t Group;
inline Group group(const uint8_t* q) {
  int32_t four;
  std::memcpy(&four, q, sizeof four);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
inline Ints dot(Ints sum, const int8_t* w, Group g) { return (Ints)vdotq_s32((int32x4_t)sum, vld1q_s8(w), g); }
#elif defined(__aarch64__)
typedef int8x8_t Group;  // twice the four inputs
inline Group group(const uint8_t* q) {
  int32_t four;
  std::memcpy(&four, q, sizeof four);
  return vreinterpret_s8_s32(vdup_n_s32(four));
}
inline Ints dot(Ints sum, const int8_t* w, Group g) {
  const int8x16_t weights = vld1q_s8(w);
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(weights), g));
  const int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(weights), g));
  return sum + (Ints)vpaddq_s32(low, high);
}
#else
typedef const int8_t* Group;
inline Group group(const uint8_t* q) { return reinterpret_cast<Group>(q); }
inline Ints dot(Ints sum, const int8_t* w, Group g) {
  for (int o = 0; o < kVector; ++o)
    for (int i = 0; i < kGroup; ++i) sum[o] += w[kGroup * o + i] * g[i];
  return sum;
}
#endif
#endif

// q = round(x * reciprocal_scales). `channels` are read in whole vectors.
inline void quantize_row(const float* x, int channels, const float* reciprocal_scales, uint8_t* q) {
  for (int c = 0; c < channels; c += kVector) {
    const Ints quantized = quantize(load(x + c) * load(reciprocal_scales + c));
    store_low_bytes(q + c, kUnsigned ? quantized + 128 : quantized);
  }
}

// One panel of int8 weights; see multiply_panel.
struct Int8Panel {
  typedef uint8_t Input;
  const int8_t* weights;
  const float *bias, *scales;
  const int32_t* offsets;
  int width, inputs;

  Int8Panel(const Panels& panels, int p)
      : weights(panels.panel<int8_t>(p)), bias(panels.bias.data() + p * kPanel),
        scales(panels.scales.data() + p * kPanel), offsets(panels.offsets.data() + p * kPanel), width(panels.width(p)),
        inputs(panels.inputs) {}

  static constexpr int kRows = MULTIRES_ROWS;
  template <int R, int V>
  void columns(int c, const uint8_t* in, size_t stride, float* out) const {
    Ints sums[R][V];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) sums[r][v] = kUnsigned ? load(offsets + c + v * kVector) : Ints{};
    const int8_t* from = weights + kGroup * c;
    for (int i = 0; i < inputs; i += kGroup, from += kGroup * width) {
      for (int r = 0; r < R; ++r) {
        const Group inputs_of_row = group(in + r * stride + i);
        for (int v = 0; v < V; ++v) sums[r][v] = dot(sums[r][v], from + kGroup * v * kVector, inputs_of_row);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) {
        const Vec sum = __builtin_convertvector(sums[r][v], Vec);
        store(out + r * kPanel + c + v * kVector, sum * load(scales + c + v * kVector) + load(bias + c + v * kVector));
      }
  }
};

}  // namespace
}  // namespace multires
