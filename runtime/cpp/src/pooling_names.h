// The poolings of a weights file, and the windows that they take.
#pragma once

#include <vector>

#include "multires.h"
#include "pooling.h"
#include "weights_file.h"

namespace multires {

constexpr int kMaxWindow = 1 << 24;

// In the order in which the head reads their results; empty without pooling. Throws LoadError.
std::vector<Pooling> read_poolings(const WeightsFile& file, bool autoregressive);
// The window of a new state for the argument of its caller. Throws LoadError.
int32_t check_window(const multires_info& info, int32_t window);
// Whether one of them can be over a window.
bool take_window(const std::vector<Pooling>& poolings);
// The number of floats in the rings of one stream.
int64_t pool_values(View<const Pooling> poolings, int d_model, int window);

}  // namespace multires
