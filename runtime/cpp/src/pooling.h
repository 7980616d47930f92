// Pooling over time in the streams of a network: the mean and the maximum of the last `window` steps, or of all steps
// for 0, and the last step. The head reads the results side by side. A network without pooling has an output at every
// step.
#pragma once

#include <algorithm>
#include <cstdint>

#include "storage.h"
#include "view.h"

namespace multires {

enum class Pooling { kMean, kMax, kLast };

// For the maximum of a window: calls function(delay), how many steps ago the ring of each shorter window is read; see
// format/pooling.py.
template <typename Function>
void for_each_delay(int window, Function function) {
  for (int reach = 1, delay; reach < window; reach += delay) {
    delay = std::min(reach, window - reach);
    function(delay);
  }
}

// The pooled states of `batch` streams.
struct Pool {
  Pool() = default;
  Pool(View<const Pooling> poolings, int d_model, int batch, int window, Storage& storage);

  int window = 0;
  View<float> sum, sum_error;      // (batch, d_model): of all steps, or of this block of a window
  View<float> block, block_error;  // (batch, d_model): of the last block; windows only
  View<float> prefix;              // (batch, window + 1, 2 * d_model); windows only
  View<float> max;                 // (batch, d_model): of all steps
  View<int32_t> delays;            // of the maximum of a window
  View<float*> maxima;             // of each shorter window (batch, delay + 1, d_model)
};

}  // namespace multires
