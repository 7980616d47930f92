#include "pooling_names.h"

#include <algorithm>
#include <iterator>
#include <string_view>

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

int64_t pool_values(View<const Pooling> poolings, int d_model, int window) {
  int64_t rows = 0;
  for (const Pooling pooling : poolings) {
    if (pooling == Pooling::kMean && window > 0) rows += 2 * (static_cast<int64_t>(window) + 1);
    if (pooling == Pooling::kMax) for_each_delay(window, [&](int delay) { rows += static_cast<int64_t>(delay) + 1; });
  }
  return rows * d_model;
}

}  // namespace multires
