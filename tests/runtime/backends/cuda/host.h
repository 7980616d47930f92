// The platform of step.cu without a GPU: the threads of a block are fibers of one thread, which run one after another
// from barrier to barrier, in an order that a seed draws anew at every barrier. If a barrier is missing, a thread reads
// what another has not written yet. With MULTIRES_THREADS they are threads of the system, for the thread sanitizer.
// With MULTIRES_ALONE a block has a single thread, for long runs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <vector>

#if defined(MULTIRES_ALONE)
constexpr int kWarp = 1;
#else
constexpr int kWarp = 32;
#endif

#define MULTIRES_DEVICE inline
#define MULTIRES_KERNEL static void
#define MULTIRES_SHARED static
#define MULTIRES_PARAMETER(type) const type&
#define MULTIRES_TABLE constexpr
#define MULTIRES_UNROLL(count)

#if defined(MULTIRES_THREADS)
#include "threads.h"
#else
#include "fibers.h"
#endif

// Lanes of a warp exchange values between two barriers of the warp.
inline float of_lane(float value, int mask) {
  static float lanes[1024];
  lanes[thread_index()] = value;
  warp_barrier();
  const float other = lanes[thread_index() ^ mask];
  warp_barrier();
  return other;
}

inline int rounded(float value) { return static_cast<int>(std::lrint(value)); }

inline int dot(int a, int b, int sum) {
  signed char x[4], y[4];
  std::memcpy(x, &a, 4);
  std::memcpy(y, &b, 4);
  for (int i = 0; i < 4; ++i) sum += x[i] * y[i];
  return sum;
}

inline float float_of_half(unsigned short bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float magnitude = exponent == 31 ? (mantissa ? NAN : INFINITY)
                                         : std::ldexp(static_cast<float>(exponent ? mantissa + 1024 : mantissa),
                                                      std::max(exponent, 1) - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

inline unsigned short half_bits(float value) {
  const unsigned short sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return 0x7fff;
  int exponent;
  std::frexp(value, &exponent);
  // In units of the last digit that a float16 of this size has.
  const int digit = std::max(exponent - 11, -24);
  const float units = std::nearbyint(std::ldexp(std::fabs(value), -digit));
  // A normal float16 has 1024 to 2048 units, and 2048 are the first of the next size; subnormal ones have fewer.
  const int bits = digit == -24 ? static_cast<int>(units) : (digit + 24) * 1024 + static_cast<int>(units);
  return static_cast<unsigned short>(sign | std::min(bits, 0x7c00));
}
