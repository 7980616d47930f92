// The high-pass filter that a card may name, as multires-edge has it in Python: it removes the offsets of electrodes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <multires.hpp>

// For samples at the network's rate. It starts settled: the first sample gives zeros. Without a filter in the card,
// samples pass unchanged.
class HighPass {
 public:
  explicit HighPass(const multires::Model& model) : channels_(static_cast<size_t>(model.info().d_input)) {
    const std::vector<std::string> card = model.metadata_lines("high_pass");
    if (card.empty()) return;
    const char* text = model.metadata("sampling_rate");
    const double rate = text ? std::strtod(text, nullptr) : 0;
    const double corner = card.size() == 3 ? std::strtod(card[1].c_str(), nullptr) : 0;
    const double last = card.size() == 3 ? std::strtod(card[2].c_str(), nullptr) : 0;
    if (card[0] == "butterworth" && corner > 0 && rate > 0 && last >= 1)
      make_sections(corner / rate, static_cast<int>(last));
    else if (card[0] == "linear-phase" && corner > 0 && rate > 0 && last > 0)
      make_taps(corner / rate, std::max<int64_t>(1, std::lrint(last * rate)));
    else
      throw std::runtime_error("the high-pass filter in the weights file is unknown; export it again");
    y_.resize(channels_);
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
    const double k = std::tan(kPi * corner);
    if (order % 2) sections_.push_back({1 / (1 + k), (k - 1) / (k + 1), 0});
    for (int i = 0; i < order / 2; ++i) {
      const double damping = 2 * std::sin(kPi * (2 * i + 1) / (2 * order));
      const double scale = 1 / (1 + damping * k + k * k);
      sections_.push_back({scale, 2 * (k * k - 1) * scale, (1 - damping * k + k * k) * scale});
    }
  }

  // The sample of `delay` ago, less a mean of the samples around it: a sinc under a Hann window.
  void make_taps(double corner, int64_t delay) {
    double sum = 0;
    for (int64_t n = -delay; n <= delay; ++n) {
      const double at = kPi * 2 * corner * static_cast<double>(n);
      const double window = std::cos(kPi / 2 * static_cast<double>(n) / static_cast<double>(delay + 1));
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

  static constexpr double kPi = 3.14159265358979323846;
  size_t channels_;
  std::vector<Section> sections_;
  std::vector<double> taps_, past_, y_;
  int64_t received_ = 0;
};
