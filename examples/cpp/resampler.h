// Resampling a stream of samples, as the network's training data were: the polyphase filter that
// multires-edge uses in Python, which is that of scipy.signal.resample_poly.
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

// y[m] = sum over k of h[k] u[m down + half - k], where u is the input with up - 1 zeros behind each sample
// and h a sinc under a Kaiser window. Before its first sample the stream holds it. push allocates nothing.
class Resampler {
 public:
  Resampler(double rate, double target, size_t channels) : channels_(channels) {
    if (!(rate >= 50 && rate <= 2000)) throw std::runtime_error("the rate must be 50 to 2000 Hz");
    approximate(target / rate);
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
      each(static_cast<const std::vector<double>&>(y_));
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
      push(last.data(), [&](const std::vector<double>& y) {
        if (produced_ < total) each(y);
      });
  }

 private:
  static constexpr double kPi = 3.14159265358979323846;
  static constexpr double kBeta = 5.0;
  static constexpr int64_t kHalfLength = 10;  // in samples of the slower side
  static constexpr int64_t kLargestDenominator = 1000;

  // The nearest fraction with a denominator of 1000 or less.
  void approximate(double ratio) {
    double best = HUGE_VAL;
    for (int64_t denominator = 1; denominator <= kLargestDenominator; ++denominator) {
      const double numerator = std::round(ratio * static_cast<double>(denominator));
      const double error = std::abs(ratio - numerator / static_cast<double>(denominator));
      if (numerator < 1 || error >= best) continue;
      best = error;
      up_ = static_cast<int64_t>(numerator);
      down_ = denominator;
    }
    if (best == HUGE_VAL) throw std::runtime_error("the rates are too far apart");
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
      const double x = kPi * n / static_cast<double>(slower);
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
