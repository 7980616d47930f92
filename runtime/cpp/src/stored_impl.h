// Values as they are stored: float32, float16 and int8. They are float32 in registers: converted when read, rounded to
// nearest even when written. Included by kernels_impl.h.
#pragma once

namespace multires {
namespace {

inline Vec load(const Half* p) {
  Halves halves;
  std::memcpy(&halves, p, sizeof halves);
  return widen(halves);
}

// A value that is too large becomes the largest float16: an infinity would stay in the queue. NaN stays NaN.
inline void store(Half* p, Vec v) {
  v = v > all(65504.0f) ? all(65504.0f) : v;
  const Halves halves = narrow(v < all(-65504.0f) ? all(-65504.0f) : v);
  std::memcpy(p, &halves, sizeof halves);
}

// The nearest quantized value, -128 to 127, half to even, in the low byte of each lane. A value that is too large
// becomes the largest, and so does NaN. The bounds are between the caller's product and the sum, so that no compiler
// fuses the two: all instruction sets round equally.
#if !defined(MULTIRES_QUANTIZES)  // else the instruction set has its own
inline Ints quantize(Vec v) {
  return bits_of(most(least(v, all(127.0f)), all(-128.0f)) + all(12582912.0f));  // see exponential
}
#endif

inline void store(int8_t* p, Vec v) { store_low_bytes(p, quantize(v)); }

// The first n values of a vector.
template <typename T>
inline void store_some(T* p, Vec v, int n) {
  T whole[kVector];
  store(whole, v);
  for (int i = 0; i < n; ++i) p[i] = whole[i];
}
template <typename T>
inline Vec load_some(const T* p, int n) {
  T whole[kVector] = {};
  std::memcpy(whole, p, static_cast<size_t>(n) * sizeof(T));
  return load(whole);
}

}  // namespace
}  // namespace multires
