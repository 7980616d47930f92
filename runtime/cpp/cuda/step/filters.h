// The multiresolution sum, and the push into the queues.
//
// With the filters of a network, y = sum over scales j and delays o of highpass[j][o] * a_j(t - o * 2^j), and
// a_{j+1} = sum over o of lowpass[j][o] * a_j(t - o * 2^j). model.cpp substitutes the a_j(t), so that y is a sum of
// the input and the values in the queues, which are known before the input comes. The rows of the filters: those of the
// low-pass filter by delay (of each scale, if they are untied); the weight of the input; for each scale, the weights of
// its taps by delay from 1 on, and for int8 queues the scales of the values in the queue, and their reciprocals. The
// weights of the taps then include the scales.
#pragma once

#include "states.h"
#include "stored.h"

constexpr int kWidth = kLayers * kModel;  // values in a row of a ring
constexpr int kInputRow = kKernel * (kUntied ? kDepth : 1);
constexpr int kUnrolled = kTotalTaps <= 64 ? kDepth : 1;  // scales whose code is written out

// The value of channel w of all layers, `o` dilations ago at scale j; `head` is the slot of the current step.
MULTIRES_DEVICE Queue* place_in_ring(const States& states, int j, int b, int head, int o, int w) {
  int slot = head - (o << j);
  if (slot < 0) slot += kScales[j].slots;
  return states.rings[j] + (static_cast<long long>(b) * kScales[j].slots + slot) * kWidth + w;
}

// The part of y that is known before the input comes. `heads` (kDepth) are of stream b.
MULTIRES_DEVICE float past_of(const unsigned char* weights, const States& states, const int* heads, int b, int layer,
                              int c) {
  const float* filters = reinterpret_cast<const float*>(weights + kLayerTable[layer].filters) + c;
  float sum = 0.0f;
  MULTIRES_UNROLL(kUnrolled)
  for (int j = 0; j < kDepth; ++j) {
    const Scale& scale = kScales[j];
    for (int o = 1; o < scale.taps; ++o)
      sum += filters[(scale.row + o - 1) * kModel] * load(place_in_ring(states, j, b, heads[j], o, layer * kModel + c));
  }
  return sum;
}

// y for the input a of a layer. Pushes a_0 .. a_{depth-1}. All reads come before the first write: the compiler cannot
// know that they are of other places, and would wait for each.
MULTIRES_DEVICE float filter_channel(const unsigned char* weights, const States& states, const int* heads, int b,
                                     int layer, int c, float a, float past) {
  const float* filters = reinterpret_cast<const float*>(weights + kLayerTable[layer].filters) + c;
  const float y = filters[kInputRow * kModel] * a + past;
  // a_{j+1} = newest[j] * a_j + older[j]; of int8 queues, also the reciprocal scales.
  float newest[kDepth], older[kDepth], reciprocals[kDepth];
  MULTIRES_UNROLL(kUnrolled)
  for (int j = 0; j < kDepth; ++j) {
    const Scale& scale = kScales[j];
    const float* lowpass = filters + (kUntied ? j * kKernel : 0) * kModel;
    const float* scales = filters + (scale.row + scale.taps - 1) * kModel;  // int8 queues only
    newest[j] = lowpass[0];
    older[j] = 0.0f;
    if (j + 1 < kDepth)
      for (int o = 1; o < kKernel; ++o)
        older[j] += lowpass[o * kModel] * load(place_in_ring(states, j, b, heads[j], o, layer * kModel + c));
    if (kScaled<Queue> && j + 1 < kDepth) older[j] *= scales[0];
    reciprocals[j] = kScaled<Queue> ? scales[kModel] : 1.0f;
  }
  MULTIRES_UNROLL(kUnrolled)
  for (int j = 0; j < kDepth; ++j) {
    store(place_in_ring(states, j, b, heads[j], 0, layer * kModel + c), kScaled<Queue> ? a * reciprocals[j] : a);
    a = newest[j] * a + older[j];
  }
  return y;
}
