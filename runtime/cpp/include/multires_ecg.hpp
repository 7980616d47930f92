// multires_ecg.hpp: from samples of an ECG at a device's rate to those that a network was trained on. Header-only, and
// of use without the rest of the library. It computes what `multires-edge stream` computes, in float64.
//
// @code
//   multires::Resampler resampler(500, 100, 12);  // if Resampler::accepts(500, 100)
//   multires::HighPass high_pass = multires::HighPass::linear_phase(0.5 / 100, 100, 12);
//   const auto use = [&](const double* sample) { stream(sample); };
//   while (read(sample)) resampler.push(sample, [&](const double* x) { high_pass.push(x, use); });
//   resampler.finish([&](const double* x) { high_pass.push(x, use); });
//   high_pass.finish(use);
// @endcode
//
// Nothing here throws but std::bad_alloc. push allocates nothing after the first sample.
#ifndef MULTIRES_ECG_HPP
#define MULTIRES_ECG_HPP

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace multires {
inline namespace v0 {

namespace detail {
constexpr double kPi = 3.14159265358979323846;
}  // namespace detail

// The polyphase filter of scipy.signal.resample_poly: y[m] = sum over k of h[k] u[m down + half - k], where u is the
// input with up - 1 zeros after each sample and h a sinc under a Kaiser window. Before its first sample the stream
// holds it.
class Resampler {
 public:
  // Whether a device may have this rate in Hz, and `target` is not too far from it.
  static bool accepts(double rate, double target) {
    return rate >= 50 && rate <= 2000 && fraction(target / rate).up > 0;
  }

  // Expects a rate that is accepted.
  Resampler(double rate, double target, size_t channels) : channels_(channels) {
    assert(accepts(rate, target));
    const Fraction nearest = fraction(target / rate);
    up_ = nearest.up, down_ = nearest.down;
    make_filter();
    past_.resize(taps_ * channels_);
    y_.resize(channels_);
  }

  int64_t up() const { return up_; }
  int64_t down() const { return down_; }

  // Take one sample of all channels; calls each(y) for every output that it completes.
  template <class Each>
  void push(const double* x, Each&& each) {
    if (received_ == 0)
      for (size_t t = 0; t < taps_; ++t) std::copy(x, x + channels_, &past_[t * channels_]);
    std::copy(x, x + channels_, &past_[slot(received_) * channels_]);
    const int64_t newest = received_++;
    for (;; ++produced_) {
      const int64_t at = produced_ * down_ + half_;
      if (at / up_ > newest) return;
      const double* taps = &filter_[static_cast<size_t>(at % up_) * taps_];
      std::fill(y_.begin(), y_.end(), 0.0);
      for (size_t t = 0; t < taps_; ++t) {
        const double* sample = &past_[slot(newest - static_cast<int64_t>(t)) * channels_];
        for (size_t c = 0; c < channels_; ++c) y_[c] += taps[t] * sample[c];
      }
      each(static_cast<const double*>(y_.data()));
    }
  }

  // The recording has ended: the outputs still due, holding the last sample.
  template <class Each>
  void finish(Each&& each) {
    if (received_ == 0) return;
    const int64_t total = (received_ * up_ + down_ - 1) / down_;
    const double* end = &past_[slot(received_ - 1) * channels_];
    const std::vector<double> last(end, end + channels_);
    while (produced_ < total)
      push(last.data(), [&](const double* y) {
        if (produced_ < total) each(y);
      });
  }

 private:
  static constexpr double kBeta = 5.0;
  static constexpr int64_t kHalfLength = 10;  // in samples of the slower side
  static constexpr int64_t kLargestDenominator = 1000;

  struct Fraction {
    int64_t up, down;
  };
  // The nearest fraction with a denominator of 1000 or less; 0 if there is none above 0.
  static Fraction fraction(double ratio) {
    Fraction nearest{0, 1};
    double best = HUGE_VAL;
    for (int64_t denominator = 1; denominator <= kLargestDenominator; ++denominator) {
      const double numerator = std::round(ratio * static_cast<double>(denominator));
      const double error = std::abs(ratio - numerator / static_cast<double>(denominator));
      if (!(numerator >= 1 && numerator < 1e15) || error >= best) continue;
      best = error;
      nearest = {static_cast<int64_t>(numerator), denominator};
    }
    return nearest;
  }

  void make_filter() {
    const int64_t slower = std::max(up_, down_);
    half_ = up_ == down_ ? 0 : kHalfLength * slower;
    const int64_t length = 2 * half_ + 1;
    taps_ = static_cast<size_t>((length + up_ - 1) / up_);
    filter_.assign(static_cast<size_t>(up_) * taps_, 0.0);
    double sum = 0;
    for (int64_t k = 0; k < length; ++k) {
      const double n = static_cast<double>(k - half_);
      const double x = detail::kPi * n / static_cast<double>(slower);
      const double across = half_ ? n / static_cast<double>(half_) : 0;
      const double h = (n == 0 ? 1 : std::sin(x) / x) * bessel_i0(kBeta * std::sqrt(1 - across * across));
      filter_[static_cast<size_t>(k % up_) * taps_ + static_cast<size_t>(k / up_)] = h;
      sum += h;
    }
    for (double& h : filter_) h *= static_cast<double>(up_) / sum;
  }

  // The modified Bessel function of order zero, by its power series.
  static double bessel_i0(double x) {
    double sum = 1, term = 1;
    for (int k = 1; term > 1e-17 * sum; ++k) {
      term *= (x / 2 / k) * (x / 2 / k);
      sum += term;
    }
    return sum;
  }

  size_t slot(int64_t number) const {
    assert(taps_ > 0);
    const int64_t taps = static_cast<int64_t>(taps_);
    return static_cast<size_t>((number % taps + taps) % taps);
  }

  size_t channels_, taps_ = 0;
  int64_t up_ = 1, down_ = 1, half_ = 0;
  int64_t received_ = 0, produced_ = 0;
  std::vector<double> filter_;  // (up, taps): a row a phase, newest input first
  std::vector<double> past_;    // a ring of the last inputs
  std::vector<double> y_;
};

// The high-pass filters that a card may name: they remove the offsets of electrodes. For samples at the network's rate.
// A filter starts settled: the first sample gives zeros.
class HighPass {
 public:
  // Passes samples unchanged.
  explicit HighPass(size_t channels) : channels_(channels) {}

  // `corner` is in cycles per sample.
  static HighPass butterworth(double corner, int order, size_t channels) {
    HighPass filter(channels);
    filter.make_sections(corner, order);
    filter.y_.resize(channels);
    return filter;
  }
  // The output of a sample comes `delay` samples later, at least 1.
  static HighPass linear_phase(double corner, int64_t delay, size_t channels) {
    HighPass filter(channels);
    filter.make_taps(corner, delay);
    filter.y_.resize(channels);
    return filter;
  }

  // Take one sample of all channels; calls each(y) for the output that it completes, if there is one.
  template <class Each>
  void push(const double* x, Each&& each) {
    if (y_.empty()) return each(x);
    if (past_.empty()) start(x);
    if (taps_.empty()) {
      for (size_t c = 0; c < channels_; ++c) y_[c] = cascade(x[c], c);
      return each(static_cast<const double*>(y_.data()));
    }
    std::copy(x, x + channels_, &past_[slot(received_++)]);
    if (received_ < static_cast<int64_t>(taps_.size())) return;
    std::fill(y_.begin(), y_.end(), 0.0);
    for (size_t k = 0; k < taps_.size(); ++k) {  // the oldest sample first
      const double* sample = &past_[slot(received_ + static_cast<int64_t>(k))];
      for (size_t c = 0; c < channels_; ++c) y_[c] += taps_[k] * sample[c];
    }
    each(static_cast<const double*>(y_.data()));
  }

  // The recording has ended: the outputs that are still due, from holding the last sample.
  template <class Each>
  void finish(Each&& each) {
    if (taps_.empty() || past_.empty()) return;
    const double* end = &past_[slot(received_ - 1)];
    const std::vector<double> last(end, end + channels_);
    for (size_t i = 0; i < taps_.size() / 2; ++i) push(last.data(), each);
  }

 private:
  struct Section {
    double gain, a1, a2;
  };

  // Each section: y[t] = gain (x[t] - 2 x[t-1] + x[t-2]) - a1 y[t-1] - a2 y[t-2], or the same of first order.
  void make_sections(double corner, int order) {
    const double k = std::tan(detail::kPi * corner);
    if (order % 2) sections_.push_back({1 / (1 + k), (k - 1) / (k + 1), 0});
    for (int i = 0; i < order / 2; ++i) {
      const double damping = 2 * std::sin(detail::kPi * (2 * i + 1) / (2 * order));
      const double scale = 1 / (1 + damping * k + k * k);
      sections_.push_back({scale, 2 * (k * k - 1) * scale, (1 - damping * k + k * k) * scale});
    }
  }

  // The sample of `delay` ago, less a mean of the samples around it: a sinc under a Hann window.
  void make_taps(double corner, int64_t delay) {
    double sum = 0;
    for (int64_t n = -delay; n <= delay; ++n) {
      const double at = detail::kPi * 2 * corner * static_cast<double>(n);
      const double window = std::cos(detail::kPi / 2 * static_cast<double>(n) / static_cast<double>(delay + 1));
      taps_.push_back((n ? std::sin(at) / at : 1) * window * window);
      sum += taps_.back();
    }
    for (double& tap : taps_) tap = -tap / sum;
    taps_[static_cast<size_t>(delay)] += 1;
  }

  void start(const double* x) {
    if (taps_.empty()) {
      past_.assign(channels_ * sections_.size() * 4, 0.0);  // two inputs, two outputs
      for (size_t c = 0; c < channels_; ++c) past_[4 * c] = past_[4 * c + 1] = x[c];
      return;
    }
    past_.resize(taps_.size() * channels_);
    for (; received_ < static_cast<int64_t>(taps_.size() / 2); ++received_)
      std::copy(x, x + channels_, &past_[slot(received_)]);
  }

  double cascade(double value, size_t channel) {
    for (size_t i = 0; i < sections_.size(); ++i) {
      const Section& section = sections_[i];
      double* past = &past_[4 * (i * channels_ + channel)];
      double y = section.a2 != 0 ? (value - 2 * past[0] + past[1]) * section.gain : (value - past[0]) * section.gain;
      y -= section.a1 * past[2];
      if (section.a2 != 0) y -= section.a2 * past[3];
      past[1] = past[0], past[0] = value;
      past[3] = past[2], past[2] = y;
      value = y;
    }
    return value;
  }

  size_t slot(int64_t sample) const {
    return static_cast<size_t>(sample % static_cast<int64_t>(taps_.size())) * channels_;
  }

  size_t channels_;
  std::vector<Section> sections_;
  std::vector<double> taps_, past_, y_;
  int64_t received_ = 0;
};

}  // namespace v0
}  // namespace multires
#endif
