#include "pooling.h"

#include <string>

#include "state.h"

namespace multires {

int32_t check_window(const multires_info& info, int32_t window) {
  if (window == MULTIRES_DEFAULT_WINDOW) return info.autoregressive ? 0 : info.window;
  if (window < 0 || window > kMaxWindow)
    throw LoadError(MULTIRES_ARGUMENT, "window is " + std::to_string(window) + ", expected 1 to " +
                                           std::to_string(kMaxWindow) + ", 0 for everything so far, or " +
                                           std::to_string(MULTIRES_DEFAULT_WINDOW) +
                                           " for the window of the weights file");
  if (window > 0 && info.autoregressive)
    throw LoadError(MULTIRES_ARGUMENT,
                    "window is " + std::to_string(window) + ", but an autoregressive model does not pool");
  return window;
}

int64_t pool_values(const multires_info& info) {
  return info.window > 0 ? 2 * (static_cast<int64_t>(info.window) + 1) * info.d_model : 0;
}

Pool::Pool(const multires_info& info, int batch, int window_, std::vector<multires_part>& parts) : window(window_) {
  if (info.autoregressive) return;
  const int64_t d = info.d_model;
  const auto add = [&](const char* name, AlignedArray<float>& array, const std::vector<int64_t>& shape) {
    multires_part part = make_part(name, MULTIRES_FLOAT32, nullptr, shape);
    array = AlignedArray<float>(part.bytes / sizeof(float));
    part.data = array.data();
    parts.push_back(part);
  };
  add("pool_sum", sum, {batch, d});
  add("pool_sum_error", sum_error, {batch, d});
  if (window == 0) return;
  add("pool_block", block, {batch, d});
  add("pool_block_error", block_error, {batch, d});
  add("pool_prefix", prefix, {batch, 1, static_cast<int64_t>(window) + 1, 2 * d});
}

}  // namespace multires
