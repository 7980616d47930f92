// Elementwise functions. Included by kernels_impl.h.
#pragma once

namespace multires {
namespace {

// x * Phi(x) = max(x, 0) - h(|x|) with h(a) = a * (1 - Phi(a)), which is smooth, at most 0.17 and below
// 1e-6 from 5.5 on. h is a polynomial in s = a / 2.75 - 1, interpolated at Chebyshev nodes.
// |error| < 5e-7 for every x (tested); no branch, no division, no exponential.
#if !defined(MULTIRES_GELU)  // else the instruction set has its own
inline Vec gelu(Vec x) {
  static constexpr float kH[] = {
      8.194348896e-03f,  -6.057822884e-02f, 1.912661398e-01f, -3.086717827e-01f, 1.788887135e-01f, 2.603210509e-01f,
      -6.278478086e-01f, 4.601556816e-01f,  1.495049154e-01f, -5.463876933e-01f, 2.762417609e-01f, 2.338470182e-01f,
      -2.616878095e-01f, -3.841818385e-02f, 1.018768775e-01f, -2.678953359e-04f, -1.643713241e-02f};
  const Vec a = most(x, -x);
  const Vec s = least(a, all(5.5f)) * all(1.0f / 2.75f) - all(1.0f);
  constexpr int n = sizeof kH / sizeof *kH;
  Vec h = all(kH[n - 1]);
  for (int k = n - 2; k >= 0; --k) h = h * s + all(kH[k]);
  return most(x, all(0.0f)) - h;
}
#endif

// e^z for |z| <= 87, by 2^n * e^r with |r| <= ln 2 / 2 and a polynomial of degree 6.
inline Vec exponential(Vec z) {
  // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
  const Vec magic = all(12582912.0f);
  const Vec shifted = z * all(1.44269504f) + magic;
  const Vec n = shifted - magic;
  // ln 2 in two parts: the first has few digits, so n times it is exact.
  const Vec r = (z - n * all(0.693359375f)) - n * all(-2.12194440e-4f);
  Vec e = all(1.0f / 720);
  e = e * r + all(1.0f / 120);
  e = e * r + all(1.0f / 24);
  e = e * r + all(1.0f / 6);
  e = e * r + all(0.5f);
  e = e * r + all(1.0f);
  e = e * r + all(1.0f);
  return e * float_of((bits_of(shifted) + 127) << 23);
}

// 1 / (1 + e^-x). Relative error < 5e-7 (tested).
inline Vec sigmoid(Vec x) {
  // Outside these bounds, the result is 1, or too small to matter.
  return reciprocal(all(1.0f) + exponential(most(least(-x, all(87.0f)), all(-87.0f))));
}

// A product with a vanishing sigmoid: its smallest value, 1e-38, times a large negative x would not be small.
inline Vec times_sigmoid(Vec x, Vec z) { return most(all(-100.0f), x) * sigmoid(z); }

inline Vec silu(Vec x) { return times_sigmoid(x, x); }

// x / 2 * (1 + tanh(u)) = x * sigmoid(2u) with u = sqrt(2 / pi) * (x + 0.044715 x^3).
inline Vec gelu_tanh(Vec x) { return times_sigmoid(x, x * (all(1.5957691216f) + all(0.0713548163f) * (x * x))); }

// The order of the operands keeps NaN.
inline Vec relu(Vec x) { return most(all(0.0f), x); }
inline Vec relu6(Vec x) { return least(all(6.0f), relu(x)); }

template <Vec (*function)(Vec)>
void each(int width, float* x) {
  for (int c = 0; c < width; c += kVector) store(x + c, function(load(x + c)));
}

// x = activation(x) for one row.
void activate_row(Activation activation, int width, float* x) {
  switch (activation) {
    case Activation::kGelu: return each<gelu>(width, x);
    case Activation::kGeluTanh: return each<gelu_tanh>(width, x);
    case Activation::kRelu: return each<relu>(width, x);
    case Activation::kRelu6: return each<relu6>(width, x);
    case Activation::kSilu: return each<silu>(width, x);
    case Activation::kIdentity: return;
  }
}

}  // namespace
}  // namespace multires
