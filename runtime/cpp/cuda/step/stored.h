// Values as they are stored: float32, float16 and int8. They are float32 in registers.
#pragma once

#include "network.h"

MULTIRES_DEVICE float least(float a, float b) { return a < b ? a : b; }
MULTIRES_DEVICE float most(float a, float b) { return a > b ? a : b; }

// The nearest quantized value, half to even. A value that is too large becomes the largest, and so does NaN.
MULTIRES_DEVICE int quantize(float value) { return rounded(most(least(value, 127.0f), -128.0f)); }

MULTIRES_DEVICE float load(const float* p) { return *p; }
MULTIRES_DEVICE float load(const unsigned short* p) { return float_of_half(*p); }
MULTIRES_DEVICE float load(const signed char* p) { return static_cast<float>(*p); }

MULTIRES_DEVICE void store(float* p, float value) { *p = value; }
// A value that is too large becomes the largest float16: an infinity would stay in the queue. NaN stays NaN.
MULTIRES_DEVICE void store(unsigned short* p, float value) {
  value = value > 65504.0f ? 65504.0f : value;
  *p = half_bits(value < -65504.0f ? -65504.0f : value);
}
MULTIRES_DEVICE void store(signed char* p, float value) { *p = static_cast<signed char>(quantize(value)); }

// Whether values of a type have scales.
template <typename Stored>
constexpr bool kScaled = sizeof(Stored) == 1;
