// Classify a stream of samples: CSV on stdin, one line for each sample of all channels; on stdout, one line
// of probabilities for each.
//
//   classify_csv BUNDLE < samples.csv
//
// BUNDLE is a bundle's folder, or its weights file. Where it was exported with a card, samples are in the
// card's unit, and its labels are named on stderr; without one, samples are taken as normalised, and the
// logits come out. Bad input is an error that names the line, and exit code 2.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <multires.hpp>

#include "samples.h"

namespace {

class Classifier {
 public:
  explicit Classifier(const multires::Model& model)
      : stream_(model), mean_(by_channel(model, "mean", 0)), std_(by_channel(model, "std", 1)) {
    if (const char* output = model.metadata("output")) output_ = output;
    x_.resize(static_cast<size_t>(model.info().d_input));
    y_.resize(static_cast<size_t>(model.info().d_output));
  }

  // The probabilities after this sample, valid until the next.
  const std::vector<float>& feed(const std::vector<double>& sample) {
    if (sample.size() != x_.size())
      throw std::runtime_error("has " + std::to_string(sample.size()) + " columns, the model takes " +
                               std::to_string(x_.size()));
    for (size_t i = 0; i < x_.size(); ++i) x_[i] = static_cast<float>((sample[i] - mean_[i]) / std_[i]);
    const multires_status status = stream_.step(x_.data(), y_.data());
    if (status != MULTIRES_OK) throw multires::Error(status, multires::text(status));
    if (!std::all_of(y_.begin(), y_.end(), [](float value) { return std::isfinite(value); }))
      throw std::runtime_error("so large that the output is not finite; check the unit");
    to_probabilities(output_, y_);
    return y_;
  }

 private:
  multires::Stream stream_;
  std::vector<double> mean_, std_;
  std::string output_;
  std::vector<float> x_, y_;
};

void run(const char* path) {
  const multires::Model model(path);
  if (model.info().d_input == 0 || model.info().autoregressive)
    throw std::runtime_error("this example runs classifiers of samples, not of tokens, and no autoregressive models");
  Classifier classifier(model);
  if (!model.metadata("mean")) std::cerr << "note: the bundle has no normalisation, samples are taken as normalised\n";
  if (!model.metadata("output"))
    std::cerr << "note: the bundle does not say how to make probabilities, logits come out\n";
  if (model.metadata("labels")) std::cerr << "labels: " << joined(model.metadata_lines("labels")) << '\n';
  std::string line;
  for (long number = 1; std::getline(std::cin, line); ++number) {
    try {
      const char* comma = "";
      for (float value : classifier.feed(parse(line))) {
        std::printf("%s%.9g", comma, static_cast<double>(value));
        comma = ",";
      }
      std::printf("\n");
      std::fflush(stdout);  // a stream may be slow, and its reader is waiting
    } catch (const std::exception& error) {
      throw std::runtime_error("line " + std::to_string(number) + ": " + error.what());
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: classify_csv BUNDLE < samples.csv\n";
    return 2;
  }
  try {
    run(arguments[1]);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 2;
  }
  return 0;
}
