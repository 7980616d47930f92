// Decide on electrodes at the device's own rate: CSV on stdin, a line of probabilities every half second.
//
//   decide_ecg BUNDLE RATE [EVERY [WINDOW]] < samples.csv
//
// RATE is in Hz; EVERY is the time between decisions in seconds, 0.5 unless given; WINDOW is what a decision
// is pooled over, 10 s unless given, 0 for everything so far. The first line names the leads, in any order and
// with others among them; samples are in the card's unit. Rate, leads and normalisation that the network
// wants are in its weights file. What comes out is what multires-edge stream decides on the same samples;
// gaps, signal quality, derived leads and saved states are in Python only. Bad input is an error that
// names the line, and exit code 2.

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <multires.hpp>

#include "resampler.h"
#include "samples.h"

namespace {

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::vector<std::string> names(const std::string& line) {
  std::vector<std::string> found(1);
  for (char c : line) {
    if (c == ',')
      found.emplace_back();
    else if (c != '\r' && c != ' ' && c != '\t')
      found.back() += c;
  }
  return found;
}

// Where in a line each of the card's channels is.
std::vector<size_t> columns(const std::string& header, const std::vector<std::string>& channels) {
  const std::vector<std::string> leads = names(header);
  std::vector<size_t> places;
  for (const std::string& channel : channels) {
    const auto found = std::find_if(leads.begin(), leads.end(),
                                    [&](const std::string& lead) { return lower(lead) == lower(channel); });
    if (found == leads.end())
      throw std::runtime_error("line 1: names no lead " + channel + "; it has " + joined(leads));
    places.push_back(static_cast<size_t>(found - leads.begin()));
  }
  return places;
}

double number(const char* text, const char* what, double smallest) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || *end || !std::isfinite(value) || value < smallest)
    throw std::runtime_error(std::string(what) + " is " + text + ", expected a number of at least " +
                             std::to_string(smallest));
  return value;
}

// A time in steps of the network.
int32_t steps(double seconds, double rate, const char* what) {
  const double count = seconds * rate;
  if (std::abs(count - std::round(count)) > 1e-6 * count)
    throw std::runtime_error(std::string(what) + " is no whole number of the network's samples");
  if (count > 1e9) throw std::runtime_error(std::string(what) + " is too long");
  return static_cast<int32_t>(std::lround(count));
}

struct Settings {
  double rate, every, window;
};

class Decider {
 public:
  Decider(const multires::Model& model, double target, const Settings& settings)
      : rate_(settings.rate), every_(steps(settings.every, target, "EVERY")),
        resampler_(settings.rate, target, static_cast<size_t>(model.info().d_input)),
        stream_(model, 1, steps(settings.window, target, "WINDOW")), mean_(by_channel(model, "mean", 0)),
        std_(by_channel(model, "std", 1)), x_(mean_.size()), y_(static_cast<size_t>(model.info().d_output)) {
    if (const char* output = model.metadata("output")) output_ = output;
    if (output_ != "sigmoid") output_ = "softmax";
    if (every_ < 1) throw std::runtime_error("EVERY is less than a sample of the network");
  }

  // One sample of the card's channels.
  void feed(const std::vector<double>& sample) {
    resampler_.push(sample.data(), [this](const std::vector<double>& y) { step(y); });
  }

  void finish() {
    resampler_.finish([this](const std::vector<double>& y) { step(y); });
  }

 private:
  void step(const std::vector<double>& sample) {
    for (size_t i = 0; i < x_.size(); ++i) x_[i] = static_cast<float>((sample[i] - mean_[i]) / std_[i]);
    const multires_status status = stream_.step(x_.data(), y_.data());
    if (status != MULTIRES_OK) throw multires::Error(status, multires::text(status));
    if (++steps_ % every_) return;
    if (!std::all_of(y_.begin(), y_.end(), [](float value) { return std::isfinite(value); }))
      throw std::runtime_error("so large that the output is not finite; check the unit");
    to_probabilities(output_, y_);
    const double ratio = static_cast<double>(resampler_.down()) / static_cast<double>(resampler_.up());
    std::printf("%.6f", static_cast<double>(steps_) * ratio / rate_);
    for (float value : y_) std::printf(",%.9g", static_cast<double>(value));
    std::printf("\n");
    // A stream may be slow, and its reader is waiting.
    if (std::fflush(stdout) != 0) throw std::runtime_error("standard output cannot be written");
  }

  double rate_;
  int64_t every_, steps_ = 0;
  Resampler resampler_;
  multires::Stream stream_;
  std::vector<double> mean_, std_;
  std::string output_;
  std::vector<float> x_, y_;
};

void run(const char* path, const Settings& settings) {
  const multires::Model model(path);
  if (model.info().d_input == 0 || model.info().autoregressive || !model.metadata("sampling_rate"))
    throw std::runtime_error("this example runs classifiers of samples whose bundle has a card");
  const double target = number(model.metadata("sampling_rate"), "the network's sampling rate", 0);
  Decider decider(model, target, settings);
  std::string line;
  std::getline(std::cin, line);
  const std::vector<size_t> places = columns(line, model.metadata_lines("channels"));
  const size_t leads = names(line).size();
  std::vector<std::string> labels = model.metadata_lines("labels");
  if (labels.empty())  // they have numbers where the card has no names
    for (int32_t i = 0; i < model.info().d_output; ++i) labels.push_back(std::to_string(i));
  std::printf("time,%s\n", joined(labels).c_str());
  std::vector<double> sample(places.size());
  for (long number = 2; std::getline(std::cin, line); ++number) {
    try {
      const std::vector<double> values = parse(line);
      if (values.size() != leads)
        throw std::runtime_error("has " + std::to_string(values.size()) + " columns, expected " +
                                 std::to_string(leads));
      for (size_t i = 0; i < places.size(); ++i) sample[i] = values[places[i]];
      decider.feed(sample);
    } catch (const std::exception& error) {
      throw std::runtime_error("line " + std::to_string(number) + ": " + error.what());
    }
  }
  decider.finish();
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3 || count > 5) {
    std::cerr << "usage: decide_ecg BUNDLE RATE [EVERY [WINDOW]] < samples.csv\n";
    return 2;
  }
  try {
    run(arguments[1], {number(arguments[2], "RATE", 0), count > 3 ? number(arguments[3], "EVERY", 0) : 0.5,
                       count > 4 ? number(arguments[4], "WINDOW", 0) : 10});
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 2;
  }
  return 0;
}
