// A classifier with what its card says: samples in the card's unit in, probabilities out.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <multires.hpp>

// One number per channel; the card may have one number for all channels.
inline std::vector<double> by_channel(const multires::Model& model, const char* key, double missing) {
  const std::vector<std::string> lines = model.metadata_lines(key);
  const size_t channels = static_cast<size_t>(model.info().d_input);
  if (lines.size() > 1 && lines.size() != channels)
    throw std::runtime_error(std::string(key) + " in the weights file does not fit the channels; export it again");
  std::vector<double> values(channels, missing);
  for (size_t i = 0; i < channels && !lines.empty(); ++i)
    values[i] = std::strtod(lines[lines.size() > 1 ? i : 0].c_str(), nullptr);
  return values;
}

class Classifier {
 public:
  // window: as for multires::Stream. otherwise: "sigmoid", "softmax" or "" for logits, if the card does not say it.
  Classifier(const multires::Model& model, std::int32_t window, const std::string& otherwise)
      : stream_(model, 1, window), mean_(by_channel(model, "mean", 0)), std_(by_channel(model, "std", 1)),
        output_(model.metadata("output") ? model.metadata("output") : otherwise), x_(mean_.size()),
        y_(static_cast<size_t>(model.info().d_output)) {}

  // One sample of all channels, filtered.
  void step(const double* sample) {
    for (size_t i = 0; i < x_.size(); ++i) x_[i] = static_cast<float>((sample[i] - mean_[i]) / std_[i]);
    const multires_status status = stream_.step(x_.data(), y_.data());
    if (status != MULTIRES_OK) throw multires::Error(status, multires::text(status));
  }

  // The probabilities after the last step.
  std::vector<float> probabilities() const {
    std::vector<float> y = y_;
    if (!std::all_of(y.begin(), y.end(), [](float value) { return std::isfinite(value); }))
      throw std::runtime_error("the output is not finite; check the unit of the samples");
    if (output_ == "sigmoid") {
      for (float& value : y) value = 1 / (1 + std::exp(-value));
    } else if (output_ == "softmax") {
      const float largest = *std::max_element(y.begin(), y.end());
      float sum = 0;
      for (float& value : y) sum += value = std::exp(value - largest);
      for (float& value : y) value /= sum;
    }
    return y;
  }

 private:
  multires::Stream stream_;
  std::vector<double> mean_, std_;  // (channels)
  std::string output_;
  std::vector<float> x_, y_;
};
