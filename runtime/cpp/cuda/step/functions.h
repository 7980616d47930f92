// Elementwise functions, and norms.
#pragma once

#include "stored.h"

// 1 / (1 + e^-x). e^-x overflows to infinity, whose reciprocal is 0.
MULTIRES_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The order of the operands keeps NaN.
MULTIRES_DEVICE float relu(float x) { return 0.0f > x ? 0.0f : x; }

MULTIRES_DEVICE float activate(float x) {
  switch (kActivation) {
    case Activation::kGelu: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    // x / 2 * (1 + tanh(u)) = x * sigmoid(2u) with u = sqrt(2 / pi) * (x + 0.044715 x^3)
    case Activation::kGeluTanh: return x * sigmoid(x * (1.5957691216f + 0.0713548163f * (x * x)));
    case Activation::kRelu: return relu(x);
    case Activation::kRelu6: return 6.0f < relu(x) ? 6.0f : relu(x);
    case Activation::kSilu: return x * sigmoid(x);
    case Activation::kIdentity: return x;
  }
  return x;
}

// The sum over the lanes of a warp, in a fixed order. All lanes get the same value.
MULTIRES_DEVICE float total_of_warp(float value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += of_lane(value, mask);
  return value;
}

MULTIRES_DEVICE float largest_of_warp(float value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = most(value, of_lane(value, mask));
  return value;
}

// The probabilities of logits. A warp does a whole row.
MULTIRES_DEVICE void softmax(const float* logits, float* probabilities, int count) {
  const int lane = thread_index() % kWarp;
  float largest = logits[0], sum = 0.0f;
  for (int o = lane; o < count; o += kWarp) largest = most(largest, logits[o]);
  largest = largest_of_warp(largest);
  for (int o = lane; o < count; o += kWarp) sum += expf(logits[o] - largest);
  sum = total_of_warp(sum);
  for (int o = lane; o < count; o += kWarp) probabilities[o] = expf(logits[o] - largest) / sum;
}

// A norm whose values depend on the other channels.
constexpr bool kNormalizes = kNorm != Norm::kAffine;

// out = scale * normal(x) + shift for each row (kModel), where normal values have mean square 1 over each group of
// channels, and mean 0 if they are centred. A warp does each group of each row; out may be x.
MULTIRES_DEVICE void normalize(const float* scale, const float* shift, const float* x, float* out, int rows) {
  constexpr int size = kModel / kGroups;
  const int lane = thread_index() % kWarp;
  for (int item = thread_index() / kWarp; item < rows * kGroups; item += kThreads / kWarp) {
    const int first = item % kGroups * size, begin = item / kGroups * kModel + first;
    float mean = 0.0f, squares = 0.0f;
    if (kNorm == Norm::kLayer) {
      for (int c = lane; c < size; c += kWarp) mean += x[begin + c];
      mean = total_of_warp(mean) / size;
    }
    for (int c = lane; c < size; c += kWarp) squares += (x[begin + c] - mean) * (x[begin + c] - mean);
    const float factor = 1.0f / sqrtf(total_of_warp(squares) / size + kEpsilon);
    for (int c = lane; c < size; c += kWarp)
      out[begin + c] = (x[begin + c] - mean) * factor * scale[first + c] + shift[first + c];
  }
}
