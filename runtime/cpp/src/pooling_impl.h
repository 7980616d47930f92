// Adding a row of features to the pool of its stream, and reading what the head reads. Included by kernels_impl.h, so
// that it is compiled for each instruction set.
#pragma once

#include "pooling.h"

namespace multires {
namespace {

// The rounded sum of two numbers, and its rounding error (Knuth, TAOCP 2, 4.2.2).
inline float two_sum(float a, float b, float& lost) {
  const float sum = a + b, added = sum - a, had = sum - added;
  lost = (a - had) + (b - added);
  return sum;
}

// Adds to a sum of two numbers, and moves as much of the second into the first as it can represent.
inline void add_exactly(float& sum, float& error, float addend) {
  float lost;
  const float rounded = two_sum(sum, addend, lost);
  const float owed = error + lost;
  sum = rounded + owed;
  error = owed - (sum - rounded);
}

// Adds the row of features x of stream b after `position` others, and writes the mean. See export/graphs/pooling.py.
void mean_row(Pool& pool, int d, int64_t position, int b, const float* x, float* pooled) {
  const size_t row = static_cast<size_t>(b) * d;
  float *sum = pool.sum.data() + row, *error = pool.sum_error.data() + row;
  if (pool.window == 0) {
    const float count = static_cast<float>(position + 1);
    for (int c = 0; c < d; ++c) {
      add_exactly(sum[c], error[c], x[c]);
      pooled[c] = (sum[c] + error[c]) / count;
    }
    return;
  }
  float *block = pool.block.data() + row, *block_error = pool.block_error.data() + row;
  if (position % pool.window == 0) {
    std::memcpy(block, sum, static_cast<size_t>(d) * sizeof(float));
    std::memcpy(block_error, error, static_cast<size_t>(d) * sizeof(float));
    std::memset(sum, 0, static_cast<size_t>(d) * sizeof(float));
    std::memset(error, 0, static_cast<size_t>(d) * sizeof(float));
  }
  const int64_t slots = static_cast<int64_t>(pool.window) + 1;
  float* ring = pool.prefix.data() + static_cast<size_t>(b) * slots * 2 * d;
  const float* before = ring + static_cast<size_t>((position + 1) % slots) * 2 * d;
  float* now = ring + static_cast<size_t>(position % slots) * 2 * d;
  const float count = static_cast<float>(std::min<int64_t>(position + 1, pool.window));
  for (int c = 0; c < d; ++c) {
    add_exactly(sum[c], error[c], x[c]);
    const float whole = (block[c] - before[c]) + sum[c];
    const float small = (block_error[c] - before[d + c]) + error[c];
    pooled[c] = (whole + small) / count;
    now[c] = sum[c];
    now[d + c] = error[c];
  }
}

// The largest values of a window: those of each shorter window, now and some steps ago. A NaN stays while it counts.
void window_max_row(Pool& pool, int d, int64_t position, int b, const float* x, float* pooled) {
  std::memcpy(pooled, x, static_cast<size_t>(d) * sizeof(float));
  for (size_t k = 0; k < pool.delays.size(); ++k) {
    const int64_t delay = pool.delays[k], slots = delay + 1;
    float* ring = pool.maxima[k] + static_cast<size_t>(b) * slots * d;
    const float* before = ring + static_cast<size_t>((position + 1) % slots) * d;
    std::memcpy(ring + static_cast<size_t>(position % slots) * d, pooled, static_cast<size_t>(d) * sizeof(float));
    if (position < delay) continue;
    for (int c = 0; c < d; ++c)
      if (before[c] > pooled[c] || std::isnan(before[c])) pooled[c] = before[c];
  }
}

// The largest values so far. The zeros of a new stream do not count; a NaN stays.
void max_row(Pool& pool, int d, int64_t position, int b, const float* x, float* pooled) {
  if (pool.window > 0) return window_max_row(pool, d, position, b, x, pooled);
  float* largest = pool.max.data() + static_cast<size_t>(b) * d;
  for (int c = 0; c < d; ++c) {
    const bool taken = position == 0 || x[c] > largest[c] || std::isnan(x[c]);
    pooled[c] = largest[c] = taken ? x[c] : largest[c];
  }
}

// Pools the row of features x of stream b after `position` others, and writes the results side by side.
void pool_row(View<const Pooling> poolings, Pool& pool, int d, int64_t position, int b, const float* x, float* pooled) {
  for (const Pooling pooling : poolings) {
    switch (pooling) {
      case Pooling::kMean: mean_row(pool, d, position, b, x, pooled); break;
      case Pooling::kMax: max_row(pool, d, position, b, x, pooled); break;
      case Pooling::kLast: std::memcpy(pooled, x, static_cast<size_t>(d) * sizeof(float)); break;
    }
    pooled += d;
  }
}

}  // namespace
}  // namespace multires
