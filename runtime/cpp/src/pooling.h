// Pooling over time in the streams of a classifier: the mean of the last `window` steps, or of all steps for 0.
#pragma once

#include <cstdint>
#include <vector>

#include "aligned.h"
#include "multires.h"
#include "weights_file.h"

namespace multires {

constexpr int kMaxWindow = 1 << 24;

// The window of a new state for the argument of its caller. Throws LoadError.
int32_t check_window(const multires_info& info, int32_t window);
// The number of floats in the rings of one stream.
int64_t pool_values(const multires_info& info);

// The pooled states of `batch` streams.
struct Pool {
  Pool() = default;
  // Adds its arrays to `parts`.
  Pool(const multires_info& info, int batch, int window, std::vector<multires_part>& parts);

  int window = 0;
  AlignedArray<float> sum, sum_error;      // (batch, d_model): of all steps, or of this block of a window
  AlignedArray<float> block, block_error;  // (batch, d_model): of the last block; windows only
  AlignedArray<float> prefix;              // (batch, window + 1, 2 * d_model); windows only
};

}  // namespace multires
