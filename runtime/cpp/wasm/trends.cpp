#include "trends.h"

#include <algorithm>
#include <cmath>

namespace multires {
namespace {

// In volts, or as a ratio; the counts are whole seconds, or leads.
constexpr double kBeat = 0.05e-3, kBeatOfMany = 0.2e-3, kOffsetMost = 0.3e-3, kWanderMost = 0.5e-3;
constexpr double kContradictionMost = 0.45, kSwappedBelow = -0.5;
constexpr int kMany = 8, kBeatSeconds = 3, kLevelSeconds = 5, kContradictionSeconds = 2, kSwappedSeconds = 5;

size_t samples(double count) { return static_cast<size_t>(std::max(1.0, std::nearbyint(count))); }

double larger(double a, double b) { return a > b || std::isnan(a) ? a : b; }

}  // namespace

Trends::Trends(const EcgCard& card, const std::vector<bool>& own, double rate)
    : channels_(card.channels()), levels_(card.filter == Filter::kNone), hum_(samples(rate / 50)),
      beat_(samples(rate / 10)), own_(own) {
  for (int c = 0; c < channels_; ++c) {
    if (!own[c]) continue;
    if (card.leads[c] == Lead::kI) one_ = c;
    if (card.leads[c] == Lead::kII) two_ = c;
    if (card.leads[c] == Lead::kV6) chest_ = c;
  }
  for (int c = 0; c < channels_ && one_ >= 0 && two_ >= 0; ++c) {
    if (!own[c]) continue;
    switch (card.leads[c]) {
      case Lead::kIII: limbs_.push_back({c, -1, 1}); break;
      case Lead::kAVR: limbs_.push_back({c, -0.5, -0.5}); break;
      case Lead::kAVL: limbs_.push_back({c, 1, -0.5}); break;
      case Lead::kAVF: limbs_.push_back({c, -0.5, 1}); break;
      default: break;
    }
  }
}

void Trends::judge(const std::vector<double>& volts, const std::vector<double>& medians, std::vector<uint32_t>& codes) {
  if (seconds_.size() == kSeconds) seconds_.erase(seconds_.begin());
  seconds_.push_back(figures(volts, medians));
  bool still = seconds_.size() >= kBeatSeconds;
  for (int ago = 0; still && ago < kBeatSeconds; ++ago) still = past(ago).beat < 1;
  if (still)
    for (uint32_t& code : codes) code |= kNoBeat;
  if (levels_) judge_levels(codes);
  judge_limbs(codes);
  judge_arms(codes);
}

Trends::Second Trends::figures(const std::vector<double>& volts, const std::vector<double>& medians) const {
  const size_t channels = static_cast<size_t>(channels_), count = volts.size() / channels;
  std::vector<double> mean(channels), energy(channels);
  for (size_t t = 0; t < count; ++t)
    for (size_t c = 0; c < channels; ++c) mean[c] += volts[t * channels + c];
  for (double& each : mean) each /= static_cast<double>(count);
  const auto moved = [&](size_t t, int c) { return volts[t * channels + static_cast<size_t>(c)] - mean[c]; };
  const auto average = [&](auto of) {
    double sum = 0;
    for (size_t t = 0; t < count; ++t) sum += of(t);
    return sum / static_cast<double>(count);
  };
  for (int c = 0; c < channels_; ++c) energy[c] = average([&](size_t t) { return moved(t, c) * moved(t, c); });
  Second second{medians, {}, {}, 0, 0, 0, beat_of(volts)};
  for (const Limb& limb : limbs_) {
    second.off.push_back(average([&](size_t t) {
      const double off = moved(t, one_) * limb.of_one + moved(t, two_) * limb.of_two - moved(t, limb.place);
      return off * off;
    }));
    second.largest.push_back(larger(energy[limb.place], larger(energy[one_], energy[two_])));
  }
  if (one_ >= 0 && chest_ >= 0) {
    second.product = average([&](size_t t) { return moved(t, one_) * moved(t, chest_); });
    second.one = energy[one_], second.two = energy[chest_];
  }
  return second;
}

// Hum is averaged out, and what is left of it cancels. NaN without a lead that is whole.
double Trends::beat_of(const std::vector<double>& volts) const {
  const size_t channels = static_cast<size_t>(channels_), count = volts.size() / channels;
  int whole = 0;
  double largest = 0;
  std::vector<double> summed(count);
  for (size_t c = 0; c < channels; ++c) {
    if (!own_[c]) continue;
    double sum = 0, most = 0;
    for (size_t t = 0; t < count; ++t) summed[t] = sum += volts[t * channels + c];
    const auto level = [&](size_t t) { return (summed[t + hum_] - summed[t]) / static_cast<double>(hum_); };
    for (size_t t = 0; t + hum_ + beat_ < count; ++t) most = larger(std::abs(level(t + beat_) - level(t)), most);
    if (!std::isfinite(sum) || !std::isfinite(most)) continue;
    ++whole;
    largest = std::max(largest, most);
  }
  return whole ? largest / (whole >= kMany ? kBeatOfMany : kBeat) : NAN;
}

void Trends::judge_levels(std::vector<uint32_t>& codes) const {
  for (size_t c = 0; c < codes.size(); ++c) {
    std::vector<double> known;
    for (const Second& second : seconds_)
      if (std::isfinite(second.medians[c])) known.push_back(second.medians[c]);
    if (known.size() < kLevelSeconds) continue;
    std::sort(known.begin(), known.end());
    const double lower = known[(known.size() - 1) / 2], upper = known[known.size() / 2];
    if (std::abs(lower + upper) / 2 > kOffsetMost) codes[c] |= kOffset;
    if (known.back() - known.front() > kWanderMost) codes[c] |= kWander;
  }
}

void Trends::judge_limbs(std::vector<uint32_t>& codes) const {
  bool any = false;
  for (size_t i = 0; i < limbs_.size(); ++i) {
    double total = 0, bound = 0;
    int whole = 0;
    for (const Second& second : seconds_) {
      if (!std::isfinite(second.off[i]) || !std::isfinite(second.largest[i])) continue;
      total += second.off[i], bound += second.largest[i];
      ++whole;
    }
    if (whole < kContradictionSeconds || !(total > kContradictionMost * kContradictionMost * bound)) continue;
    codes[limbs_[i].place] |= kContradiction;
    any = true;
  }
  if (any) codes[one_] |= kContradiction, codes[two_] |= kContradiction;
}

void Trends::judge_arms(std::vector<uint32_t>& codes) const {
  if (one_ < 0 || chest_ < 0) return;
  double product = 0, one = 0, two = 0;
  int whole = 0;
  for (const Second& second : seconds_) {
    if (!std::isfinite(second.product) || !std::isfinite(second.one) || !std::isfinite(second.two)) continue;
    product += second.product, one += second.one, two += second.two;
    ++whole;
  }
  if (whole >= kSwappedSeconds && product < kSwappedBelow * std::sqrt(one * two))
    codes[one_] |= kArmsSwapped, codes[chest_] |= kArmsSwapped;
}

}  // namespace multires
