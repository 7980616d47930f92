// What the examples share: samples as text, and what the card says of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <multires.hpp>

inline std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
  return text;
}

// One number for each channel; the card may have one for all of them.
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

// The numbers of a line, between commas.
inline std::vector<double> parse(const std::string& line) {
  std::vector<double> values;
  for (const char* at = line.c_str();; ++at) {
    char* end = nullptr;
    const double value = std::strtod(at, &end);
    const bool found = end != at && std::isfinite(value);
    while (*end == ' ' || *end == '\t' || *end == '\r') ++end;
    if (!found || (*end != ',' && *end != '\0'))
      throw std::runtime_error("column " + std::to_string(values.size() + 1) + " is not a finite number");
    values.push_back(value);
    if (*end == '\0') return values;
    at = end;
  }
}

inline void to_probabilities(const std::string& output, std::vector<float>& y) {
  if (output == "sigmoid") {
    for (float& value : y) value = 1 / (1 + std::exp(-value));
  } else if (output == "softmax") {
    const float largest = *std::max_element(y.begin(), y.end());
    float sum = 0;
    for (float& value : y) sum += value = std::exp(value - largest);
    for (float& value : y) value /= sum;
  }
}
