// Classify a stream of samples as they come; see kUsage.

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <multires.hpp>

#include "classifier.h"
#include "high_pass.h"
#include "samples.h"

namespace {

constexpr const char* kUsage =
    R"(usage: classify_csv BUNDLE < samples.csv

Print a line of probabilities for every sample. BUNDLE is the folder of a bundle, or its weights file. A line of
the input is a sample of all channels, in the unit of the bundle's card. The first line may name the leads; without
names they are the card's channels, in its order. Without a card, samples are taken as normalized, and the logits
are printed. Bad input is an error that names the line, and exit code 2.
)";

// Print a line, unless there is nothing to print yet: the output of a linear-phase filter is late.
void print(const std::vector<float>& probabilities) {
  if (probabilities.empty()) return;
  const char* comma = "";
  for (const float value : probabilities) {
    std::printf("%s%.9g", comma, static_cast<double>(value));
    comma = ",";
  }
  std::printf("\n");
  // Samples may come slowly: show each line at once.
  if (std::fflush(stdout) != 0) throw std::runtime_error("standard output cannot be written");
}

void run(const char* path) {
  const multires::Model model(path);
  if (model.info().d_input == 0 || model.info().autoregressive)
    throw std::runtime_error("this example runs classifiers of samples, not of tokens, and no autoregressive models");
  Classifier classifier(model, MULTIRES_DEFAULT_WINDOW, "");
  if (!model.metadata("mean")) std::cerr << "note: the bundle has no mean and std: samples are taken as normalized\n";
  if (!model.metadata("output")) std::cerr << "note: the bundle does not name its output: logits are printed\n";
  if (model.metadata("labels")) std::cerr << "labels: " << joined(model.metadata_lines("labels")) << '\n';
  multires::HighPass high_pass = high_pass_of(model);
  std::vector<float> probabilities;
  const auto step = [&](const double* x) {
    classifier.step(x);
    probabilities = classifier.probabilities();
  };
  SampleReader samples(std::cin, model);
  std::vector<double> sample;
  while (samples.next(sample)) {
    probabilities.clear();
    try {
      high_pass.push(sample.data(), step);
    } catch (const std::exception& error) {
      throw samples.error(error.what());
    }
    print(probabilities);
  }
  high_pass.finish([&](const double* x) {
    step(x);
    print(probabilities);
  });
}

}  // namespace

int main(int count, char** arguments) {
  return guarded_main(count, arguments, 1, 1, kUsage, [&] { run(arguments[1]); });
}
