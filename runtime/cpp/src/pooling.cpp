#include "pooling.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "state.h"

namespace multires {
namespace {

constexpr std::string_view kNames[] = {"mean", "max", "last"};  // by Pooling

[[noreturn]] void refuse(const std::string& pooling) {
  throw LoadError(MULTIRES_UNSUPPORTED,
                  "metadata pooling is '" + pooling + "', this release runs mean, max and last, or none");
}

}  // namespace

std::vector<Pooling> read_poolings(const WeightsFile& file, bool autoregressive) {
  const auto found = file.metadata().find("pooling");
  if (found == file.metadata().end())
    return autoregressive ? std::vector<Pooling>{} : std::vector<Pooling>{Pooling::kMean};
  std::vector<Pooling> poolings;
  std::string_view rest = found->second;
  while (!rest.empty() && rest != "none") {
    const std::string_view name = rest.substr(0, rest.find('+'));
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
    const auto* known = std::find(std::begin(kNames), std::end(kNames), name);
    if (known == std::end(kNames)) refuse(found->second);
    const auto pooling = static_cast<Pooling>(known - kNames);
    if (std::find(poolings.begin(), poolings.end(), pooling) != poolings.end()) refuse(found->second);
    poolings.push_back(pooling);
  }
  return poolings;
}

int32_t check_window(const multires_info& info, int32_t window) {
  if (window == MULTIRES_DEFAULT_WINDOW) return info.window;
  if (window < 0 || window > kMaxWindow)
    throw LoadError(MULTIRES_ARGUMENT, "window is " + std::to_string(window) + ", expected 1 to " +
                                           std::to_string(kMaxWindow) + ", 0 for everything so far, or " +
                                           std::to_string(MULTIRES_DEFAULT_WINDOW) +
                                           " for the window of the weights file");
  if (window > 0 && !info.takes_window)
    throw LoadError(MULTIRES_ARGUMENT, "window is " + std::to_string(window) + ", but this model pools over no window");
  return window;
}

bool take_window(const std::vector<Pooling>& poolings) {
  return std::any_of(poolings.begin(), poolings.end(), [](Pooling pooling) { return pooling != Pooling::kLast; });
}

std::vector<int> max_delays(int window) {
  std::vector<int> delays;
  for (int reach = 1; reach < window; reach += delays.back()) delays.push_back(std::min(reach, window - reach));
  return delays;
}

int64_t pool_values(const std::vector<Pooling>& poolings, int d_model, int window) {
  int64_t rows = 0;
  for (const Pooling pooling : poolings) {
    if (pooling == Pooling::kMean && window > 0) rows += 2 * (static_cast<int64_t>(window) + 1);
    if (pooling == Pooling::kMax)
      for (const int delay : max_delays(window)) rows += static_cast<int64_t>(delay) + 1;
  }
  return rows * d_model;
}

Pool::Pool(const std::vector<Pooling>& poolings, int d_model, int batch, int window_, std::vector<multires_part>& parts)
    : window(window_) {
  const int64_t d = d_model;
  const auto add = [&](const char* name, AlignedArray<float>& array, const std::vector<int64_t>& shape) {
    multires_part part = make_part(name, MULTIRES_FLOAT32, nullptr, shape);
    array = AlignedArray<float>(part.bytes / sizeof(float));
    part.data = array.data();
    parts.push_back(part);
  };
  for (const Pooling pooling : poolings) {
    if (pooling == Pooling::kMax && window == 0) add("pool_max", max, {batch, d});
    if (pooling == Pooling::kMax && window > 0) {
      delays = max_delays(window);
      maxima.resize(delays.size());
      for (size_t k = 0; k < delays.size(); ++k)
        names.push_back((k < 10 ? "pool_max_0" : "pool_max_") + std::to_string(k));
      for (size_t k = 0; k < delays.size(); ++k)
        add(names[k].c_str(), maxima[k], {batch, 1, static_cast<int64_t>(delays[k]) + 1, d});
    }
    if (pooling != Pooling::kMean) continue;
    add("pool_sum", sum, {batch, d});
    add("pool_sum_error", sum_error, {batch, d});
    if (window == 0) continue;
    add("pool_block", block, {batch, d});
    add("pool_block_error", block_error, {batch, d});
    add("pool_prefix", prefix, {batch, 1, static_cast<int64_t>(window) + 1, 2 * d});
  }
}

}  // namespace multires
