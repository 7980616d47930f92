// Pooling over time in the streams of a network: the mean and the maximum of the last `window` steps, or of all steps
// for 0, and the last step. The head reads the results side by side. A network without pooling has an output at every
// step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "aligned.h"
#include "multires.h"
#include "weights_file.h"

namespace multires {

constexpr int kMaxWindow = 1 << 24;

enum class Pooling { kMean, kMax, kLast };

// Of a weights file, in the order in which the head reads their results; empty without pooling. Throws LoadError.
std::vector<Pooling> read_poolings(const WeightsFile& file, bool autoregressive);
// The window of a new state for the argument of its caller. Throws LoadError.
int32_t check_window(const multires_info& info, int32_t window);
// Whether one of them can be over a window.
bool take_window(const std::vector<Pooling>& poolings);
// For the maximum of a window: how many steps ago the ring of each shorter window is read; see format/pooling.py.
std::vector<int> max_delays(int window);
// The number of floats in the rings of one stream.
int64_t pool_values(const std::vector<Pooling>& poolings, int d_model, int window);

// The pooled states of `batch` streams.
struct Pool {
  Pool() = default;
  // Adds its arrays to `parts`.
  Pool(const std::vector<Pooling>& poolings, int d_model, int batch, int window, std::vector<multires_part>& parts);

  int window = 0;
  AlignedArray<float> sum, sum_error;      // (batch, d_model): of all steps, or of this block of a window
  AlignedArray<float> block, block_error;  // (batch, d_model): of the last block; windows only
  AlignedArray<float> prefix;              // (batch, window + 1, 2 * d_model); windows only
  AlignedArray<float> max;                 // (batch, d_model): of all steps
  std::vector<int> delays;                 // max_delays of a window
  std::vector<AlignedArray<float>> maxima;  // of each shorter window (batch, delay + 1, d_model)
  std::vector<std::string> names;           // of their parts
};

}  // namespace multires
