// float16 where no instruction converts it. Included after vectors.h.
#pragma once

namespace multires {
namespace {

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

}  // namespace
}  // namespace multires
