// Pooling over time: the mean and the maximum of the last kWindow steps, or of all steps for 0, and the last step. The
// head reads the results side by side.
#pragma once

#include "states.h"

// Adds to a sum of two numbers, and moves as much of the second into the first as it can represent. The rounding error
// of the first sum is by Knuth (TAOCP 2, 4.2.2).
MULTIRES_DEVICE void add_exactly(float& sum, float& error, float addend) {
  const float rounded = sum + addend, added = rounded - sum, had = rounded - added;
  const float owed = error + ((sum - had) + (addend - added));
  sum = rounded + owed;
  error = owed - (sum - rounded);
}

// The mean of channel c of stream b, after `position` other steps and x. See export/graphs/pooling.py.
MULTIRES_DEVICE float mean_with(const States& states, long long position, int b, int c, float x) {
  const long long at = static_cast<long long>(b) * kModel + c;
  float sum = states.sum[at], error = states.sum_error[at];
  float whole, part, count = static_cast<float>(position + 1);
  if (kWindow == 0) {
    add_exactly(sum, error, x);
    whole = sum;
    part = error;
  } else {
    constexpr int window = kWindow > 0 ? kWindow : 1;  // not 0, also where it is not used
    if (position % window == 0) {
      states.block[at] = sum;
      states.block_error[at] = error;
      sum = error = 0.0f;
    }
    add_exactly(sum, error, x);
    float* ring = states.prefix + static_cast<long long>(b) * (window + 1) * 2 * kModel + c;
    const float* before = ring + (position + 1) % (window + 1) * 2 * kModel;
    float* now = ring + position % (window + 1) * 2 * kModel;
    whole = (states.block[at] - before[0]) + sum;
    part = (states.block_error[at] - before[kModel]) + error;
    now[0] = sum;
    now[kModel] = error;
    if (position >= window) count = static_cast<float>(window);
  }
  states.sum[at] = sum;
  states.sum_error[at] = error;
  return (whole + part) / count;
}

// The largest value of a window: that of each shorter window, now and some steps ago. A NaN stays while it counts.
MULTIRES_DEVICE float window_max_with(const States& states, long long position, int b, int c, float x) {
  for (int k = 0; k < kMaxima; ++k) {
    const int delay = kMaxDelays[k], slots = delay + 1;
    float* ring = states.maxima[k] + static_cast<long long>(b) * slots * kModel + c;
    const float before = ring[(position + 1) % slots * kModel];
    ring[position % slots * kModel] = x;
    if (position >= delay && (before > x || before != before)) x = before;
  }
  return x;
}

// The largest value so far. The zeros of a new stream do not count; a NaN stays.
MULTIRES_DEVICE float max_with(const States& states, long long position, int b, int c, float x) {
  if (kWindow > 0) return window_max_with(states, position, b, c, x);
  float& largest = states.max[static_cast<long long>(b) * kModel + c];
  if (position == 0 || x > largest || x != x) largest = x;
  return largest;
}

// What the head reads of channel c of the features x.
MULTIRES_DEVICE void pool_channel(const States& states, long long position, int b, int c, float x, float* pooled) {
  MULTIRES_UNROLL(kPoolings)
  for (int i = 0; i < kPoolings; ++i) {
    const Pooling pooling = kPoolingTable[i];
    pooled[i * kModel + c] = pooling == Pooling::kMean  ? mean_with(states, position, b, c, x)
                             : pooling == Pooling::kMax ? max_with(states, position, b, c, x)
                                                        : x;
  }
}
