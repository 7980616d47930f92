#include "quality.h"

#include <algorithm>
#include <cmath>

namespace multires {
namespace {

// In volts and seconds.
constexpr double kFlatBelow = 10e-6, kRail = 1e-3, kPlateau = 0.02, kNoiseMost = 50e-6, kLargestMove = 10e-3;
constexpr uint32_t kUnusable = kFlat | kClipped | kImplausible | kNoBeat | kOffset;

size_t samples(double count, size_t least) {
  return std::max(least, static_cast<size_t>(std::max(0.0, std::nearbyint(count))));
}

double upper_median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

size_t longest_run(const std::vector<double>& values, double value) {
  size_t longest = 0, run = 0;
  for (const double each : values) longest = std::max(longest, run = each == value ? run + 1 : 0);
  return longest;
}

std::vector<bool> neither(const std::vector<bool>& a, const std::vector<bool>& b) {
  std::vector<bool> result(a.size());
  for (size_t i = 0; i < a.size(); ++i) result[i] = !a[i] && !b[i];
  return result;
}

}  // namespace

Quality::Quality(const EcgCard& card, const std::vector<bool>& missing, const std::vector<bool>& derived, double rate)
    : volts_(card.volts), channels_(card.leads.size()), lag_(samples(0.005 * rate, 1)),
      plateau_(samples(kPlateau * rate, 3)), second_(samples(rate, 2 * lag_ + 1)), missing_(missing),
      valued_(channels_), judged_(channels_), since_(channels_), trends_(card, neither(missing, derived), rate) {
  window_.reserve(second_ * channels_);
}

void Quality::push(const double* x) {
  if (taken_) {
    taken_ = false;
    since_.assign(channels_, 0);
    valued_.assign(channels_, false);
  }
  for (size_t c = 0; c < channels_; ++c) {
    if (std::isfinite(x[c]))
      valued_[c] = true;
    else
      since_[c] |= kNan;
    window_.push_back(x[c] * volts_);
  }
  if (window_.size() < second_ * channels_) return;
  judge();
  window_.clear();
  for (size_t c = 0; c < channels_; ++c) since_[c] |= judged_[c];
}

int Quality::take(std::vector<uint32_t>& flags) {
  int usable = 0;
  flags.resize(channels_);
  for (size_t c = 0; c < channels_; ++c) {
    const uint32_t codes = since_[c] | judged_[c];
    usable += valued_[c] && !missing_[c] && !(codes & kUnusable);
    flags[c] = missing_[c] ? uint32_t{kMissing} : codes;
  }
  taken_ = true;  // decisions at the end of a record have no further samples
  return usable;
}

void Quality::judge() {
  std::vector<double> values(second_), medians(channels_);
  judged_.assign(channels_, 0);
  for (size_t c = 0; c < channels_; ++c) {
    for (size_t t = 0; t < second_; ++t) values[t] = window_[t * channels_ + c];
    judge(c, values, medians);
  }
  trends_.judge(window_, medians, judged_);
}

// One channel, whose values are those of a second.
void Quality::judge(size_t channel, const std::vector<double>& values, std::vector<double>& medians) {
  uint32_t& codes = judged_[channel];
  double high = -HUGE_VAL, low = HUGE_VAL;
  size_t found = 0;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    ++found;
    high = std::max(high, value), low = std::min(low, value);
  }
  const bool whole = found == values.size(), flat = found && high - low < kFlatBelow;
  if (flat) codes |= kFlat;
  if (high - low > kLargestMove) codes |= kImplausible;
  medians[channel] = NAN;
  if (!whole) return;  // the rest needs all values of a second
  const double middle = upper_median(values);
  if (!flat) medians[channel] = middle;
  for (const double extreme : {high, low})
    if (std::abs(extreme - middle) > kRail && longest_run(values, extreme) >= plateau_) codes |= kClipped;
  // The second difference of white noise with deviation s has deviation sqrt(6) s; its median absolute value is 0.6745
  // times that. A QRS complex is too short to affect the median over a second.
  std::vector<double> bends;
  for (size_t t = 0; t + 2 * lag_ < values.size(); ++t)
    bends.push_back(std::abs(values[t + 2 * lag_] - 2 * values[t + lag_] + values[t]));
  if (upper_median(std::move(bends)) / (0.6745 * std::sqrt(6.0)) > kNoiseMost) codes |= kNoise;
}

}  // namespace multires
