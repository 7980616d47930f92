// Many patients in lockstep, on the CPU or on an NVIDIA GPU; see kUsage.

#include <cstdint>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <multires_cuda.hpp>

#include "samples.h"

namespace {

constexpr const char* kUsage =
    R"(usage: stream_ward BUNDLE PATIENTS cpu|gpu < samples.csv

Run a network for several patients at once. Line t of the input is the sample of patient 0 at time t, already
normalized; patient p gets it p steps later, and zeros before. Print the logits of every patient after the last
line, one line each.
)";

// Both classes of streams have the same calls. Only a stream on a GPU has a reason for its failure.
const char* reason(const multires::Stream&, multires_status status) { return multires::text(status); }
const char* reason(const multires::cuda::Stream& stream, multires_status) { return stream.reason(); }

template <typename Stream>
void run(const multires::Model& model, std::int32_t patients) {
  Stream stream(model, patients);
  const auto channels = static_cast<size_t>(model.info().d_input), outputs = static_cast<size_t>(model.info().d_output);
  const size_t rows = static_cast<size_t>(patients);
  std::vector<float> x(rows * channels), y(rows * outputs);  // (patients, channels) and (patients, outputs)
  SampleReader samples(std::cin, model);
  for (std::vector<double> sample; samples.next(sample);) {
    std::copy_backward(x.begin(), x.end() - static_cast<std::ptrdiff_t>(channels), x.end());
    std::transform(sample.begin(), sample.end(), x.begin(), [](double value) { return static_cast<float>(value); });
    const multires_status status = stream.step(x.data(), y.data());
    if (status != MULTIRES_OK) throw std::runtime_error(reason(stream, status));
  }
  for (size_t i = 0; i < y.size(); ++i)
    std::printf("%.9g%c", static_cast<double>(y[i]), (i + 1) % outputs == 0 ? '\n' : ',');
}

void run(const char* bundle, const std::string& patients, const std::string& device) {
  const multires::Model model(bundle);
  if (model.info().d_input == 0) throw std::runtime_error("this example runs networks of samples, not of tokens");
  const int count = std::atoi(patients.c_str());
  if (device == "gpu")
    run<multires::cuda::Stream>(model, count);
  else if (device == "cpu")
    run<multires::Stream>(model, count);
  else
    throw std::runtime_error("the device is '" + device + "', expected cpu or gpu");
}

}  // namespace

int main(int count, char** arguments) {
  return guarded_main(count, arguments, 3, 3, kUsage, [&] { run(arguments[1], arguments[2], arguments[3]); });
}
