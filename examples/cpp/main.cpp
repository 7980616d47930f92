// Classify a stream of samples as they come; see kUsage.

#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <multires.hpp>

#include "classifier.h"
#include "samples.h"

namespace {

constexpr const char* kUsage =
    R"(usage: classify_csv BUNDLE < samples.csv

Print a line of probabilities for every sample. BUNDLE is the folder of a bundle, or its weights file. A line of
the input is a sample of all channels, in the unit of the bundle's card. The first line may name the leads; without
names they are the card's channels, in its order. Without a card, samples are taken as normalized, and the logits
are printed. Bad input is an error that names the line, and exit code 2.
)";

void run(const char* path) {
  const multires::Model model(path);
  if (model.info().d_input == 0 || model.info().autoregressive)
    throw std::runtime_error("this example runs classifiers of samples, not of tokens, and no autoregressive models");
  if (model.metadata("high_pass"))
    throw std::runtime_error("the bundle's card has a high-pass filter, which only decide_ecg applies");
  Classifier classifier(model, MULTIRES_DEFAULT_WINDOW, "");
  if (!model.metadata("mean")) std::cerr << "note: the bundle has no mean and std: samples are taken as normalized\n";
  if (!model.metadata("output")) std::cerr << "note: the bundle does not name its output: logits are printed\n";
  if (model.metadata("labels")) std::cerr << "labels: " << joined(model.metadata_lines("labels")) << '\n';
  SampleReader samples(std::cin, model);
  std::vector<double> sample;
  while (samples.next(sample)) {
    try {
      classifier.step(sample);
      const char* comma = "";
      for (const float value : classifier.probabilities()) {
        std::printf("%s%.9g", comma, static_cast<double>(value));
        comma = ",";
      }
    } catch (const std::exception& error) {
      throw samples.error(error.what());
    }
    std::printf("\n");
    // Samples may come slowly: show each line at once.
    if (std::fflush(stdout) != 0) throw std::runtime_error("standard output cannot be written");
  }
}

}  // namespace

int main(int count, char** arguments) {
  return guarded_main(count, arguments, 1, 1, kUsage, [&] { run(arguments[1]); });
}
