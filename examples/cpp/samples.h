// What the examples share: samples as comma-separated text, and the handling of arguments and errors.
#pragma once

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <istream>
#include <stdexcept>
#include <string>
#include <vector>

#include <multires.hpp>

inline std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
  return text;
}

inline std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// Samples as lines of numbers. If no field of the first line is a number, the line is a header that names the
// leads: then the leads may be in any order, with others among them. Without a header they are the channels of
// the network, in its order. Every error names the line.
class SampleReader {
 public:
  SampleReader(std::istream& input, const multires::Model& model)
      : input_(input), channels_(model.metadata_lines("channels")),
        columns_(static_cast<size_t>(model.info().d_input)) {
    for (size_t i = 0; i < columns_; ++i) places_.push_back(i);
  }

  // Read the next sample into (channels). False after the last one.
  bool next(std::vector<double>& sample) {
    if (!read_line()) {
      if (line_ == (has_header_ ? 1 : 0))
        throw std::runtime_error("no samples on standard input; expected lines of numbers");
      return false;
    }
    if (line_ == 1 && std::none_of(fields_.begin(), fields_.end(), starts_with_number)) {
      has_header_ = true;
      find_channels();
      return next(sample);
    }
    for (size_t i = 0; i < fields_.size(); ++i)
      if (!is_finite_number(fields_[i])) throw error("column " + std::to_string(i + 1) + " is not a finite number");
    if (fields_.size() != columns_)
      throw error("has " + std::to_string(fields_.size()) + " columns, expected " + std::to_string(columns_));
    sample.resize(places_.size());
    for (size_t i = 0; i < places_.size(); ++i) sample[i] = std::strtod(fields_[places_[i]].c_str(), nullptr);
    return true;
  }

  // An error in the line that was read last.
  std::runtime_error error(const std::string& what) const {
    return std::runtime_error("line " + std::to_string(line_) + ": " + what);
  }

 private:
  // The fields between commas, without blanks and the end of a Windows line.
  bool read_line() {
    std::string text;
    if (!std::getline(input_, text)) return false;
    ++line_;
    fields_.assign(1, "");
    for (const char c : text)
      if (c == ',')
        fields_.emplace_back();
      else
        fields_.back() += c;
    for (std::string& field : fields_) {
      const size_t first = field.find_first_not_of(" \t\r"), last = field.find_last_not_of(" \t\r");
      field = first == std::string::npos ? "" : field.substr(first, last - first + 1);
    }
    return true;
  }

  static bool starts_with_number(const std::string& field) {
    char* end = nullptr;
    std::strtod(field.c_str(), &end);
    return end != field.c_str();
  }

  static bool is_finite_number(const std::string& field) {
    char* end = nullptr;
    const double value = std::strtod(field.c_str(), &end);
    return end != field.c_str() && *end == '\0' && std::isfinite(value);
  }

  // Where in a line each channel is.
  void find_channels() {
    if (channels_.empty()) {
      if (fields_.size() != columns_)
        throw error("names " + std::to_string(fields_.size()) + " leads, expected " + std::to_string(columns_));
      return;
    }
    for (size_t i = 0; i < channels_.size(); ++i) {
      const auto is_channel = [&](const std::string& lead) { return lower(lead) == lower(channels_[i]); };
      const auto found = std::find_if(fields_.begin(), fields_.end(), is_channel);
      if (found == fields_.end()) throw error("has no lead " + channels_[i] + ", only " + joined(fields_));
      if (std::any_of(found + 1, fields_.end(), is_channel)) throw error("names lead " + channels_[i] + " twice");
      places_[i] = static_cast<size_t>(found - fields_.begin());
    }
    columns_ = fields_.size();
  }

  std::istream& input_;
  std::vector<std::string> channels_, fields_;
  std::vector<size_t> places_;  // the column of each channel
  size_t columns_;
  long line_ = 0;
  bool has_header_ = false;
};

// What both programs do with their arguments and errors.
template <class Run>
int guarded_main(int count, char** arguments, int fewest, int most, const char* usage, Run&& run) {
  for (int i = 1; i < count; ++i)
    if (const std::string argument = arguments[i]; argument == "--help" || argument == "-h") {
      std::printf("%s", usage);
      return 0;
    }
  try {
    if (count - 1 < fewest || count - 1 > most)
      throw std::runtime_error("got " + std::to_string(count - 1) + " arguments; see --help");
    run();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
