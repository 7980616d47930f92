// Decide on electrodes at the device's own sampling rate; see kUsage. Rate, leads and normalization of the network are
// in its weights file. The probabilities are those of `multires-edge stream` on the same samples. That command also
// checks the quality of the signal, and makes no decision without a signal. This example does not check.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <multires.hpp>
#include <multires_ecg.hpp>

#include "classifier.h"
#include "high_pass.h"
#include "samples.h"

namespace {

constexpr const char* kUsage =
    R"(usage: decide_ecg BUNDLE RATE [EVERY [WINDOW]] < samples.csv

Print a line of probabilities every EVERY seconds (0.5), after a line with their names. BUNDLE is the folder of a
bundle with a card, or its weights file. RATE is the sampling rate in Hz, 50 to 2000. WINDOW is the number of seconds
that a decision is pooled over (10); 0 is everything so far. A line of the input is a sample of all leads, in the unit
of the card. The first line may name the leads, in any order; without names they are the card's channels, in its order.
Bad input is an error that names the line, and exit code 2.
)";

double number(const char* text, const char* what) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || *end || !std::isfinite(value) || value < 0)
    throw std::runtime_error(std::string(what) + " is " + text + ", expected a number, 0 or more");
  return value;
}

// A time in steps of the network.
int32_t steps(double seconds, double rate, const char* what) {
  const double count = seconds * rate;
  if (std::abs(count - std::round(count)) > 1e-6 * count)
    throw std::runtime_error(std::string(what) + " is not a whole number of samples of the network");
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
        resampler_(accepted(settings.rate, target), target, static_cast<size_t>(model.info().d_input)),
        high_pass_(high_pass_of(model)),
        classifier_(model,
                    model.info().takes_window ? steps(settings.window, target, "WINDOW") : MULTIRES_DEFAULT_WINDOW,
                    "softmax") {
    if (every_ < 1) throw std::runtime_error("EVERY is less than a sample of the network");
  }

  // One sample of the card's channels.
  void feed(const std::vector<double>& sample) {
    resampler_.push(sample.data(), [this](const double* x) { filter(x); });
  }

  void finish() {
    resampler_.finish([this](const double* x) { filter(x); });
    high_pass_.finish([this](const double* x) { step(x); });
  }

 private:
  static double accepted(double rate, double target) {
    if (!multires::Resampler::accepts(rate, target)) throw std::runtime_error("the rate must be 50 to 2000 Hz");
    return rate;
  }

  void filter(const double* sample) {
    high_pass_.push(sample, [this](const double* x) { step(x); });
  }

  void step(const double* sample) {
    classifier_.step(sample);
    if (++steps_ % every_) return;
    const double ratio = static_cast<double>(resampler_.down()) / static_cast<double>(resampler_.up());
    const std::vector<float> probabilities = classifier_.probabilities();
    std::printf("%.6f", static_cast<double>(steps_) * ratio / rate_);
    for (const float value : probabilities) std::printf(",%.9g", static_cast<double>(value));
    std::printf("\n");
    // Samples may come slowly: show each line at once.
    if (std::fflush(stdout) != 0) throw std::runtime_error("standard output cannot be written");
  }

  double rate_;
  int64_t every_, steps_ = 0;
  multires::Resampler resampler_;
  multires::HighPass high_pass_;
  Classifier classifier_;
};

void run(const char* path, const Settings& settings) {
  const multires::Model model(path);
  if (model.info().d_input == 0 || model.info().autoregressive || !model.metadata("sampling_rate"))
    throw std::runtime_error("this example runs classifiers of samples whose bundle has a card");
  const double target = number(model.metadata("sampling_rate"), "the network's sampling rate");
  Decider decider(model, target, settings);
  SampleReader samples(std::cin, model);
  std::vector<double> sample;
  bool is_first = true;
  while (samples.next(sample)) {
    if (is_first) {
      std::vector<std::string> labels = model.metadata_lines("labels");
      for (int32_t i = static_cast<int32_t>(labels.size()); i < model.info().d_output; ++i)
        labels.push_back(std::to_string(i));  // a card without labels
      std::printf("time,%s\n", joined(labels).c_str());
      is_first = false;
    }
    try {
      decider.feed(sample);
    } catch (const std::exception& error) {
      throw samples.error(error.what());
    }
  }
  decider.finish();
}

}  // namespace

int main(int count, char** arguments) {
  return guarded_main(count, arguments, 2, 4, kUsage, [&] {
    run(arguments[1], {number(arguments[2], "RATE"), count > 3 ? number(arguments[3], "EVERY") : 0.5,
                       count > 4 ? number(arguments[4], "WINDOW") : 10});
  });
}
